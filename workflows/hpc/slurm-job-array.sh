#!/usr/bin/env bash
# Cuts a cohort in 20 parts, without Dask: sbatch slurm-job-array.sh slides.csv /scratch/RUN [FLAGS of tile]
# What is left after a failure: sbatch --array="$(wsi-pipeline missing /scratch/RUN --parts 20)" slurm-job-array.sh …
# Jobs of minutes to hours, not of seconds; SLURM takes at most 1001 of an array. After a failure: the same again.
#SBATCH --job-name=wsi-part
#SBATCH --array=1-20
#SBATCH --cpus-per-task=8
#SBATCH --mem=8G
#SBATCH --time=12:00:00
set -euo pipefail
slides=$1 run=$2 parts=${PARTS:-20}  # of the whole cohort, also where only some are submitted again
shift 2
wsi-pipeline tile "$slides" -o "$run" \
    --part "$SLURM_ARRAY_TASK_ID/$parts" --workers "$SLURM_CPUS_PER_TASK" "$@"
