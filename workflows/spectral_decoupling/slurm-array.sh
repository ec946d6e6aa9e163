#!/bin/bash
#SBATCH --array=1-35
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
# Every job trains and asks its share of the networks; the last to end writes tables, figures and page.
# A job that ran out of time goes on when it is submitted again.
set -euo pipefail
exec wsi-pipeline study "${STUDY:?}" --run "${RUN:?}" ${EXTERNAL:+--external "$EXTERNAL"} -o "${OUT:?}" \
    --part "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --quiet
