#!/usr/bin/env bash
# The run itself as a job, where the login node ends long ones: sbatch slurm-driver.sh slides.csv /scratch/RUN
#SBATCH --job-name=wsi-driver
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=3-00:00:00
set -euo pipefail
exec wsi-pipeline tile "$1" -o "$2" --cluster slurm.yaml
