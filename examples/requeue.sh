# Sourced by the SLURM scripts beside it: `training WORDS` runs train.py in the job's tasks. If the warning SIGUSR1 stops it
# after a checkpoint (exit code 75), the job is put back into the queue and resumes the same run. A preempted job is put back
# by SLURM itself, and a job that scancel has ended stays ended.

training() {
  export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun does not take it from sbatch since SLURM 22.05
  local code=0 warned=0 steps
  srun --kill-on-bad-exit=1 python train.py trainer=slurm resume=auto "$@" &
  steps=$!
  trap 'warned=1; kill -USR1 "$steps" 2>/dev/null || true' USR1 # SLURM sends it only to the script, srun passes it on
  trap : TERM                                                  # SLURM sends it to the tasks as well
  wait "$steps" || code=$?
  while kill -0 "$steps" 2>/dev/null; do # a signal interrupts wait before the checkpoint is written
    code=0
    wait "$steps" || code=$?
  done
  if [ "$code" -eq 75 ] && [ "$warned" -eq 1 ]; then
    scontrol requeue "$SLURM_JOB_ID"
  fi
  return "$code"
}
