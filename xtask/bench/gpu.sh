#!/usr/bin/env bash
# What there is to know of a GPU in ten minutes, in the order of use: does nadgrid work on it, is it right, are its bits
# the same twice, why is it as fast as it is, how fast is it, and how fast is PyTorch beside it. Ends with a Markdown
# report for docs/performance.md.
#
#   xtask/bench/gpu.sh pack PROGRAMS ARCHIVE   strips the programs and packs them, for a machine that takes few megabytes
#   xtask/bench/gpu.sh [PROGRAMS]              a folder, or such an archive, with nadgrid, nadgrid-coordinator and
#                                              nadgrid-worker [target/release]
#
# Needs a Python with torch 2.11.0 (variable PYTHON) and no Rust. A part that fails is told and the others go on; what no
# longer fits into the time is left out. Variables:
#   PARTS="works right same why speed"   what to look at
#   PRECISIONS="fp32 tf32 bf16"
#   MINUTES=9.5                          for everything
#   ROUNDS=3                             of speed
#   PEERS=1                              0: nadgrid alone
#   SEARCH=0                             1: the peers look for their fastest way in the last round, torch.compile included
#   SCALE=1                              N: computes an N-th
#   OUT=out/gpu                          log.txt, verdict.txt, probe.jsonl, measurements.jsonl, and report.md, which is
#                                        written anew after every round
# Ends with exit code 1 if the bits are wrong. Deliberately absent: any change of the GPU's settings.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
read -r -a parts <<<"${PARTS:-works right same why speed}"
read -r -a precisions <<<"${PRECISIONS:-fp32 tf32 bf16}"
listed=$(IFS=, && echo "${precisions[*]}")
rounds=${ROUNDS:-3}
scale=${SCALE:-1}
peers=${PEERS:-1}
search=${SEARCH:-0}

fail() {
    echo "gpu.sh: $*" >&2
    exit 1
}

pack() {
    local programs=$1 archive=$2 folder
    folder=$(mktemp -d)
    for program in nadgrid nadgrid-coordinator nadgrid-worker; do
        strip -o "$folder/$program" "$programs/$program"
    done
    tar -czf "$archive" -C "$folder" .
    rm -rf "$folder"
    echo "$archive: $(($(stat -c %s "$archive") / 1048576)) MiB"
}

if [[ ${1:-} == pack ]]; then
    [[ $# == 3 ]] || fail "pack PROGRAMS ARCHIVE"
    pack "$2" "$3"
    exit
fi

# ---- The machine.

programs=${1:-"$here/../../target/release"}
out=${OUT:-out/gpu}
mkdir -p "$out"
out=$(cd "$out" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [[ -f $programs ]]; then
    mkdir "$scratch/programs"
    tar -xzf "$programs" -C "$scratch/programs"
    programs=$scratch/programs
fi
programs=$(cd "$programs" && pwd)
for program in nadgrid nadgrid-coordinator nadgrid-worker; do
    [[ -x $programs/$program ]] ||
        fail "there is no program $programs/$program: build with \`cargo build --release --bins\`, or name the folder"
done

# One look at torch, which may take long to import: its release, its libraries, and the card. libtorch_cuda.so finds most
# of the libraries itself; naming their folders also serves a torch that was moved.
seen=$("$python" - <<'PYTHON'
import glob
import os

import torch

folder = os.path.dirname(torch.__file__)
cuda = sorted(glob.glob(os.path.join(os.path.dirname(folder), "nvidia", "*", "lib")))
print(torch.__version__.split("+")[0])
print(":".join([os.path.join(folder, "lib"), *cuda]))
if torch.cuda.is_available():
    print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
PYTHON
) || fail "$python cannot import torch: name a Python that can in the variable PYTHON"
{ read -r version && read -r libraries && read -r card || true; } <<<"$seen"
[[ $version == 2.11.0 ]] || fail "$python has torch $version; nadgrid-worker is built for 2.11.0"
[[ -n ${card:-} ]] || fail "PyTorch sees no GPU here (nvidia-smi says what the driver sees)"
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

worker=$programs/nadgrid-worker
measurements=$out/measurements.jsonl
verdict=$out/verdict.txt
log=$out/log.txt
: >"$measurements"
: >"$verdict"
: >"$log"
# Counted from the start of this script.
deadline=$(awk "BEGIN { print int(60 * ${MINUTES:-9.5}) }")

# ---- Helpers.

has() {
    [[ " ${parts[*]} " == *" $1 "* ]]
}

# An N-th of a number, at least 2.
few() {
    echo $(($1 / scale > 2 ? $1 / scale : 2))
}

say() {
    echo "$*" | tee -a "$log" >&2
}

# limited SECONDS COMMAND...: a command with a time limit, its errors in the log. Not started where less than 5 seconds
# are left of all.
limited() {
    local limit=$1 left=$((deadline - SECONDS))
    shift
    if ((left < 5)); then
        say "LEFT OUT, no time: $*"
        return 125
    fi
    say "== $((SECONDS)) s: $*"
    timeout "$((limit < left ? limit : left))" "$@" 2>>"$log"
}

# judge WHAT OUTCOME: a line of the verdict about bits. An outcome that begins with "WRONG" fails the whole.
judge() {
    echo "$1: $2" | tee -a "$verdict" >>"$log"
    say "   $1: $2"
}

# ours BENCH PRECISION SECONDS ARGUMENTS...: the line that the worker's own benchmark prints, labelled, is a measurement.
ours() {
    local bench=$1 precision=$2 limit=$3 line
    shift 3
    if line=$(limited "$limit" "$worker" bench "$@" --device cuda --precision "$precision" --json) &&
        [[ $line == "{"* ]]; then
        printf '{"side":"nadgrid","bench":"%s","precision":"%s","measured":%s}\n' "$bench" "$precision" "$line" \
            >>"$measurements"
        say "   nadgrid $bench $precision: $line"
    else
        say "   FAILED: nadgrid $bench $precision, see $log"
    fi
}

# theirs [METHOD]: every peer once, with the way that is usually fastest or this one.
theirs() {
    limited 240 "$python" "$here/gpu_peers.py" --scale "$scale" --precisions "$listed" ${1:+--method "$1"} |
        tee -a "$measurements" | sed 's/^/   /' >&2 || say "   FAILED: a peer, see $log"
}

# sweep NAME DEVICE SPEC: runs a spec and leaves its result in a folder of this name.
sweep() {
    limited 90 "$programs/nadgrid" run --device "$2" --out "$scratch/$1" "$3" >>"$log"
}

# ---- Does it work? The first call is cold.

works() {
    local precision what outcome=yes
    for precision in "${precisions[@]}"; do
        for what in "jacobian --networks 64" "jacobian --architecture resnet18 --networks 4 --block-size 4"; do
            # shellcheck disable=SC2086 # several words
            limited 90 "$worker" bench $what --device cuda --precision "$precision" --json >>"$log" ||
                outcome="WRONG, $what failed in $precision, see $log"
        done
    done
    for what in "jacobian --architecture vgg11 --networks 2 --block-size 2" \
        "jacobian --architecture densenet121 --networks 2 --block-size 2" \
        "directional --runs 4 --block-size 4 --epochs 1" \
        "directional --architecture resnet18 --runs 2 --block-size 2 --epochs 1"; do
        # shellcheck disable=SC2086
        limited 60 "$worker" bench $what --device cuda --json >>"$log" || outcome="WRONG, $what failed, see $log"
    done
    judge "works" "$outcome"
}

# ---- Is it right? Beside the same sweeps on the CPU.

specs() {
    printf 'name = "nads"\narchitectures = ["lenet"]\n[nads]\nnetworks = %d\n' "$(few 2048)" >"$scratch/nads.toml"
    printf '%s\n' 'name = "runs"' 'architectures = ["lenet"]' '[directional]' \
        'directions = { kind = "pixels", indices = [0, 100, 200, 300, 400, 500, 600, 700] }' "block_size = 8" \
        "train_samples = $(few 10000)" "training = { epochs = 2 }" >"$scratch/runs.toml"
}

right() {
    local overlap gap
    sweep nads_cpu cpu "$scratch/nads.toml" && sweep nads_a cuda "$scratch/nads.toml" || {
        judge "NADs beside the CPU's" "WRONG, a sweep failed, see $log"
        return
    }
    overlap=$("$programs/nadgrid" compare --json "$scratch/nads_cpu/nads/lenet" "$scratch/nads_a/nads/lenet" 2>>"$log" |
        json 'min(of["overlap"] for of in found["overlaps"])') || overlap=0
    judge "NADs beside the CPU's" "$(above "$overlap" 0.99) (smallest overlap of subspaces: $overlap)"
    if sweep runs_cpu cpu "$scratch/runs.toml" && sweep runs_a cuda "$scratch/runs.toml"; then
        gap=$("$python" "$here/gpu_table.py" --gap "$scratch"/runs_{cpu,a}/directional/lenet.csv) || gap=100
        judge "accuracies beside the CPU's" "$(above 3 "$gap") (mean difference of the runs: $gap points)"
    else
        judge "accuracies beside the CPU's" "WRONG, a sweep failed, see $log"
    fi
}

# above A B: "right" if A is at least B.
above() {
    awk "BEGIN { print ($1 >= $2) ? \"right\" : \"WRONG\" }"
}

# ---- Are the bits the same twice?

same() {
    local what first second
    for what in nads runs; do
        [[ -d $scratch/${what}_a ]] || sweep "${what}_a" cuda "$scratch/$what.toml" || true
        sweep "${what}_b" cuda "$scratch/$what.toml" || true
        first=$(digest "${what}_a")
        second=$(digest "${what}_b")
        if [[ -n $first && $first == "$second" ]]; then
            judge "$what twice" "same bits, digest ${first:0:16}"
        else
            judge "$what twice" "WRONG, digests ${first:-none} and ${second:-none}"
        fi
    done
}

digest() {
    json 'found["digest"]' 2>/dev/null <"$scratch/$1/sweep.json" || true
}

# json EXPRESSION: an expression of Python of what is read from standard input.
json() {
    "$python" -c "import json, sys; found = json.load(sys.stdin); print($1)"
}

# ---- Why is it as fast as it is? Times of nadgrid's own shapes, and of copies and launches.

why() {
    local same
    SCALE=$scale limited 150 "$python" "$here/probe.py" "$listed" >"$out/probe.jsonl" ||
        say "   FAILED: probe.py, see $log"
    same=$(grep -c '"same": true' "$out/probe.jsonl" || true)
    if ((same == 0)) || grep -q '"same": false' "$out/probe.jsonl"; then
        judge "100 repeats of each operation" "WRONG, see $out/probe.jsonl"
    else
        judge "100 repeats of each operation" "same bits, $same operations"
    fi
}

# ---- How fast is it? A round is everything once, ours before theirs; rates are compared, so that the slower side may do
# less.

one_round() {
    local precision way=$1
    for precision in "${precisions[@]}"; do
        ours resnet18 "$precision" 60 jacobian --architecture resnet18 --networks "$(few 96)"
        ours lenet "$precision" 40 jacobian --architecture lenet --networks "$(few 8192)"
    done
    ours vgg11 fp32 60 jacobian --architecture vgg11 --networks "$(few 32)" --block-size 8
    ours densenet121 fp32 60 jacobian --architecture densenet121 --networks "$(few 32)" --block-size 16
    # A population of sixty-four: a GPU idles on one run at a time.
    ours directional fp32 90 directional --architecture lenet --runs "$(few 64)" --block-size 64 --epochs 4
    if ((peers)); then theirs "$way"; fi
}

report() {
    {
        echo "**The bits.** $(bits)"
        echo
        sed 's/^/- /' "$verdict"
        echo
        "$python" "$here/gpu_table.py" "$measurements"
    } >"$out/report.md"
}

bits() {
    if grep -q WRONG "$verdict"; then
        echo "WRONG: no figure below counts."
    elif [[ -s $verdict ]]; then
        echo "Right, and the same twice, as far as was looked."
    else
        echo "Not looked at."
    fi
}

{ nvidia-smi; nvidia-smi -q -d CLOCK,POWER; } >>"$log" 2>&1 || say "nvidia-smi does not answer"
say "torch $version on $card"
specs
for part in works right same why; do
    if has "$part"; then "$part"; fi
done
report
say "The bits: $(bits)"
if has speed; then
    for ((round = 1; round <= rounds; round++)); do
        say "== round $round of $rounds"
        if ((search && round == rounds)); then one_round best; else one_round ""; fi
        report
    done
fi
cat "$out/report.md"
say "all in $SECONDS s"
! grep -q WRONG "$verdict"
