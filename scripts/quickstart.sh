#!/usr/bin/env bash
# From nothing to a trained potential that runs MD: environment, training on the bundled data, evaluation, 1 ps of MD.
set -euo pipefail
SECONDS=0
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment ""
cd "$ROOT"
installed_s=$SECONDS

# An earlier quickstart is kept: the next one is quickstart-2, and so on.
run="runs/quickstart"
number=2
while [[ -e "$run" ]]; do
    run="runs/quickstart-$number"
    number=$((number + 1))
done

mace_gaunt="$VENV/bin/mace-gaunt"
"$mace_gaunt" train experiment=quickstart run="$run"
trained_s=$SECONDS
"$mace_gaunt" evaluate model="$run/model" data=3bpa_xtb out="$run/evaluation"
"$mace_gaunt" md model="$run/model" structure=data/3bpa_xtb/test_300K.xyz.gz \
    ensemble=nve temperature_K=300 timestep_fs=0.5 steps=2000 out="$run/md"
"$VENV/bin/python" scripts/quickstart_summary.py "$run"
echo "time: $((SECONDS / 60)) min $((SECONDS % 60)) s (environment $installed_s s, training $((trained_s - installed_s)) s," \
    "evaluation and MD $((SECONDS - trained_s)) s)"
