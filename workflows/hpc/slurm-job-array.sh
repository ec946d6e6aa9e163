#!/usr/bin/env bash
# Cuts a cohort in 20 parts, without Dask: sbatch slurm-job-array.sh slides.csv /scratch/RUN [FLAGS of tile]
# Jobs of minutes to hours, not of seconds; SLURM takes at most 1001 of an array. After a failure: the same again.
#SBATCH --job-name=wsi-part
#SBATCH --array=1-20
#SBATCH --cpus-per-task=8
#SBATCH --mem=8G
#SBATCH --time=12:00:00
set -euo pipefail
slides=$1 run=$2
shift 2
wsi-pipeline tile "$slides" -o "$run" \
    --part "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --workers "$SLURM_CPUS_PER_TASK" "$@"
