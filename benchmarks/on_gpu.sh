#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, in about ten minutes: installs, tests, compares, checks, trains, measures.
#
#     benchmarks/on_gpu.sh                 all parts; goes on where it was stopped
#     benchmarks/on_gpu.sh tests kernels   some of them, again
#     benchmarks/on_gpu.sh --dry-run       prints the commands
#     benchmarks/on_gpu.sh --pretend       without a GPU: every part as far as it goes, small, on a pretended one or on the CPU
#
# The parts: install tests ops sanitizer examples kernels training. A part leaves NAME.log and NAME.txt (done, failed or
# skipped, and why) in benchmarks/results/gpu; a part that is done is not run again, one that was cut off is.
# $ON_GPU_ENVIRONMENT: a Python environment to use as it is. Otherwise $PYTHON (default python3) is used where it has CuPy,
# PyTorch and what the tests need, and where not, it makes .venv-gpu and installs them there, which needs the internet.
set -uo pipefail
cd "$(dirname "$0")/.."

PARTS=(install tests ops sanitizer examples kernels training)
dry= pretend= chosen=()
for argument in "$@"; do
    case $argument in
        --dry-run) dry=1 ;;
        --pretend) pretend=1 ;;
        -h | --help) sed -n '2,/^set/p' "$0" | sed '$d' | cut -c3-; exit ;;
        -*) echo "on_gpu.sh: unknown option $argument (--dry-run, --pretend)" >&2; exit 2 ;;
        *) chosen+=("$argument") ;;
    esac
done
for part in "${chosen[@]+"${chosen[@]}"}"; do
    [[ " ${PARTS[*]} " == *" $part "* ]] || { echo "on_gpu.sh: unknown part $part: choose from ${PARTS[*]}" >&2; exit 2; }
done
wanted=("${chosen[@]:-${PARTS[@]}}")

results=${ON_GPU_RESULTS:-benchmarks/results/gpu${pretend:+-pretended}}
[[ $results == /* ]] || results=$PWD/$results
needed="import sys, importlib.util as u
missing = [m for m in 'cupy torch pytest xdist hypothesis scipy matplotlib'.split() if u.find_spec(m) is None]
sys.exit('missing: ' + ', '.join(missing) if missing else 0)"
if [[ -n ${ON_GPU_ENVIRONMENT:-} ]]; then
    environment=$ON_GPU_ENVIRONMENT python=$ON_GPU_ENVIRONMENT/bin/python
elif "${PYTHON:-python3}" -c "$needed" 2>/dev/null; then
    python=$(command -v "${PYTHON:-python3}")
    environment=$(dirname "$(dirname "$python")")
else
    environment=$PWD/.venv-gpu python=$PWD/.venv-gpu/bin/python
fi
export PYTHONPATH=$PWD PIP_DISABLE_PIP_VERSION_CHECK=1 HYPOTHESIS_PROFILE=dev MPLBACKEND=Agg
export MINITORCH_FLUX_CACHE=${MINITORCH_FLUX_CACHE:-$results/cache}
program=("$python" ${pretend:+-m tests.pretended})
[[ $dry ]] || mkdir -p "$results"

note() { # part, what became of it
    echo "$1: $2"
    [[ $dry ]] || echo "$2" >"$results/$1.txt"
}

run() { # part, seconds, command: its output goes to the log
    local part=$1 seconds=$2
    [[ $pretend ]] && seconds=$((seconds * 5)) # a laptop
    shift 2
    if [[ $dry ]]; then
        echo "    timeout $seconds $(printf ' %q' "$@")"
        return 0
    fi
    echo "\$ $*" >>"$results/$part.log"
    timeout "$seconds" "$@" >>"$results/$part.log" 2>&1
}

device() { nvidia-smi --query-gpu=name,driver_version,compute_cap --format=csv,noheader 2>/dev/null | head -n 1; }

# -- the parts: each returns 0 when it is done ---------------------------------------------------------------------------

part_install() {
    if [[ $python == "$PWD/.venv-gpu/bin/python" ]] && ! "$python" -c "$needed" 2>/dev/null; then
        run install 60 "${PYTHON:-python3}" -m venv "$environment" || return 1
        run install 500 "$python" -m pip install --quiet torch -e '.[test,gpu,viz]' nvidia-cuda-sanitizer-api || return 1
    fi
    run install 60 "$python" -c "$needed" || return 1
    run install 60 "$python" -m minitorch_flux info
}

part_tests() { # what is marked gpu, then all operations, layers and optimisers with the device beside the CPU
    local how=(-q -n "$(nproc)" --dist loadfile)
    if [[ $pretend ]]; then
        run tests 300 "$python" -m pytest -q --pretend-gpu tests/ops/test_softmaxes.py tests/capturing/test_graphs.py
        return
    fi
    run tests 120 "$python" -m pytest -q -m gpu tests --ignore tests/test_devices.py
    local marked=$?
    run tests 300 "$python" -m pytest "${how[@]}" tests/ops tests/nn tests/losses tests/optimisers tests/capturing \
        tests/test_tiny.py && return $marked
}

part_ops() { # every kernel on the device against the references on the CPU; the differences go to ops.json
    run ops 300 "$python" -m pytest -q ${pretend:+--pretend-gpu} tests/test_devices.py --differences "$results/ops.json"
}

part_sanitizer() { # races, accesses beyond arrays, uninitialised memory, of a sample of the kernels
    [[ $pretend ]] && { reason="there is nothing to watch on a pretended GPU"; return 77; }
    local tool
    tool=$(command -v compute-sanitizer || find "$environment" /usr/local/cuda/ -name compute-sanitizer -type f 2>/dev/null | head -n 1)
    [[ $dry ]] && tool=compute-sanitizer
    [[ $tool ]] || { reason="compute-sanitizer is not installed (CUDA toolkit)"; return 77; }
    local sample="softmax_forward or sum_columns or max_pool_forward or conv_tensor or batch_norm_forward or philox_uniform"
    for check in memcheck racecheck synccheck initcheck; do
        run sanitizer 120 "$tool" --tool "$check" --error-exitcode 9 --target-processes all \
            "$python" -m pytest -q tests/test_devices.py -k "($sample) and 33" || return 1
    done
}

part_examples() { # a training run of each data set that comes with the library, and of each example, on the device
    local data epochs=2 steps=100
    [[ $pretend ]] && epochs=1 steps=3
    [[ $dry ]] || rm -rf "$results/runs"
    for data in digits fashion-mini; do
        run examples 120 "${program[@]}" -m minitorch_flux train --data "$data" --epochs "$epochs" --device cuda \
            --out "$results/runs/$data" || return 1
    done
    run examples 120 "${program[@]}" examples/names.py --epochs "$epochs" --device cuda --out "$results/runs/names" || return 1
    run examples 120 "${program[@]}" examples/characters.py --steps "$steps" --device cuda --out "$results/runs/characters"
}

part_kernels() { # each kernel's share of the copy bandwidth or of the product rate
    if [[ $pretend ]]; then
        run kernels 300 "${program[@]}" -m benchmarks.kernels --device gpu --numbers 65536 --seconds 0.01 \
            --json "$results/kernels.json"
        return
    fi
    run kernels 240 "$python" -m benchmarks.kernels --device gpu --json "$results/kernels.json"
    local all=$?
    run kernels 120 "$python" -m benchmarks.kernels conv matmul --device gpu --tf32 --dtypes float32 \
        --json "$results/kernels-tf32.json" && return $all
}

part_training() { # steps and inference of whole models beside PyTorch on the same device, eager and captured
    if [[ $pretend ]]; then
        run training 300 "$python" -m benchmarks tiny --rounds 1 --blocks 2 --batch own --json "$results/training.json" || return 1
        run training 300 "$python" -m benchmarks tiny --rounds 1 --blocks 2 --batch own --capture --json "$results/training-captured.json"
        return
    fi
    run training 300 "$python" -m benchmarks tiny mlp lenet lstm resnet18 invres vit --device gpu --rounds 2 --blocks 5 \
        --batch own --json "$results/training.json"
    local eager=$?
    run training 240 "$python" -m benchmarks tiny mlp lenet lstm --device gpu --capture --rounds 2 --blocks 5 \
        --batch own --modes train --json "$results/training-captured.json" && return $eager
}

# -- all of them ---------------------------------------------------------------------------------------------------------

all() {
    local found part failed code start
    found=$(device)
    if [[ -z $found && -z $pretend && -z $dry ]]; then
        for part in "${wanted[@]}"; do note "$part" "skipped: nvidia-smi finds no NVIDIA device here"; done
        echo "on_gpu.sh: --pretend runs what can be run without one"
        return 0
    fi
    echo "device: ${found:-none}${pretend:+, pretended}; results in $results"
    failed=0
    for part in "${wanted[@]}"; do
        if [[ ${#chosen[@]} == 0 && -z $dry && $(cat "$results/$part.txt" 2>/dev/null) == done* ]]; then
            echo "$part: done before"
            continue
        fi
        [[ $dry ]] || : >"$results/$part.log"
        [[ $dry ]] && echo "$part:"
        reason= start=$SECONDS
        "part_$part"
        code=$?
        [[ $dry ]] && continue
        case $code in
            0) note "$part" "done in $((SECONDS - start)) s on ${found:-a pretended GPU}" ;;
            77) note "$part" "skipped: $reason" ;;
            *) note "$part" "failed after $((SECONDS - start)) s, the end of $results/$part.log says: $(tail -n 1 "$results/$part.log")"
                failed=1 ;;
        esac
    done
    return $failed
}

all; exit # in one line: bash has read the whole file before it begins, so that it may change meanwhile
