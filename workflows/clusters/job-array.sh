#!/usr/bin/env bash
# Cuts a cohort in 20 parts: sbatch job-array.sh slides.csv /scratch/RUN
#SBATCH --array=1-20
#SBATCH --cpus-per-task=8
#SBATCH --mem=8G
#SBATCH --time=12:00:00
set -euo pipefail
wsi-pipeline tile "$1" -o "$2" --part "$SLURM_ARRAY_TASK_ID/20" --workers "$SLURM_CPUS_PER_TASK"
