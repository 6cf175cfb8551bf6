#!/usr/bin/env bash
# Every benchmark on a GPU, nadgrid beside PyTorch on the same card, in turns; ends with a Markdown table for docs/performance.md.
#
#   xtask/bench/gpu.sh [PROGRAMS]      PROGRAMS: the folder with nadgrid-worker [target/release]
#
# Needs a Python with torch 2.11.0 (variable PYTHON) and no Rust. A machine may be lent for minutes alone, so that parts can
# be chosen:
#   BENCHES="lenet resnet18 directional"   PRECISIONS="fp32 tf32 bf16"   ROUNDS=3   LIMIT=300 (seconds for one measurement)
#   OUT=out/gpu                            what each measurement printed: measurements.jsonl, log.txt, table.md
# A part that fails is told, in the log and in the table, and the others go on. Deliberately absent: any change of the GPU's settings.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
programs=${1:-"$here/../../target/release"}
python=${PYTHON:-python3}
read -r -a benches <<<"${BENCHES:-lenet resnet18 directional}"
read -r -a precisions <<<"${PRECISIONS:-fp32 tf32 bf16}"
rounds=${ROUNDS:-3}
limit=${LIMIT:-300}
out=${OUT:-out/gpu}

fail() {
    echo "gpu.sh: $*" >&2
    exit 1
}

worker=$programs/nadgrid-worker
[[ -x $worker ]] || fail "there is no program $worker: build with \`cargo build --release --bins\`, or name the folder"
version=$("$python" -c 'import torch; print(torch.__version__.split("+")[0])' 2>/dev/null) ||
    fail "$python cannot import torch: name a Python that can in the variable PYTHON"
[[ $version == 2.11.0 ]] || fail "$python has torch $version; nadgrid-worker is built for 2.11.0"
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
    fail "PyTorch sees no GPU here (nvidia-smi says what the driver sees)"

# libtorch_cuda.so finds most of its libraries itself; naming their folders also serves a torch that was moved.
libraries=$("$python" - <<'PYTHON'
import glob
import os

import torch

torch_folder = os.path.dirname(torch.__file__)
folders = [os.path.join(torch_folder, "lib")]
folders += sorted(glob.glob(os.path.join(os.path.dirname(torch_folder), "nvidia", "*", "lib")))
print(":".join(folders))
PYTHON
)

mkdir -p "$out"
measurements=$out/measurements.jsonl
log=$out/log.txt
: >"$measurements"
: >"$log"

# measure SIDE BENCH PRECISION COMMAND...: the last line that the command prints, labelled, is one measurement.
measure() {
    local side=$1 bench=$2 precision=$3 line
    shift 3
    echo "== $side $bench $precision: $*" | tee -a "$log" >&2
    if line=$(timeout "$limit" "$@" 2>>"$log" | tail -n 1) && [[ $line == "{"* ]]; then
        printf '{"side":"%s","bench":"%s","precision":"%s","measured":%s}\n' "$side" "$bench" "$precision" "$line" |
            tee -a "$measurements" >&2
    else
        echo "FAILED, see $log" | tee -a "$log" >&2
    fi
}

ours() {
    local bench=$1 precision=$2
    shift 2
    measure nadgrid "$bench" "$precision" env LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
        "$worker" bench "$@" --device cuda --precision "$precision" --json
}

# theirs BENCH PRECISION PROGRAM ARGUMENTS...; `method` is what the first round found best, so that later ones do not search.
theirs() {
    local bench=$1 precision=$2 program=$3 method
    shift 3
    method=$("$python" "$here/gpu_table.py" --method "$bench" "$precision" "$measurements")
    measure pytorch "$bench" "$precision" \
        "$python" "$here/$program" "$@" --device cuda --precision "$precision" --method "$method"
}

for precision in "${precisions[@]}"; do
    measure pytorch matmul "$precision" "$python" "$here/matmul.py" --precision "$precision"
done
for bench in "${benches[@]}"; do
    for precision in "${precisions[@]}"; do
        for ((round = 1; round <= rounds; round++)); do
            case $bench in
            # Rates are compared, so that the slower side may do less.
            lenet)
                ours lenet "$precision" jacobian --architecture lenet --networks 8192
                theirs lenet "$precision" jacobian.py --architecture lenet --networks 1024
                ;;
            resnet18)
                ours resnet18 "$precision" jacobian --architecture resnet18 --networks 128
                theirs resnet18 "$precision" jacobian.py --architecture resnet18 --networks 64
                ;;
            directional)
                # A population of sixty-four: a GPU idles on one run at a time.
                ours directional "$precision" directional --architecture lenet --runs 256 --block-size 64
                theirs directional "$precision" directional.py --runs 64
                ;;
            *) fail "no benchmark is called $bench: lenet, resnet18 or directional" ;;
            esac
        done
    done
done
"$python" "$here/gpu_table.py" "$measurements" | tee "$out/table.md"
