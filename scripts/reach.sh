# Which Kubernetes to test on; sourced, never run.
# shellcheck shell=bash

# Sets KUBECONFIG to the Kubernetes of this machine where nothing else is named, and brings our
# images onto it. Fails when no Kubernetes answers.
# ~/.kube/config is never taken: tests that cut nodes off do not belong on whatever that names.
reach_kubernetes() {
    local stand="${KUBE_STATE:-/var/lib/local-kubernetes}" kubectl target
    target="$(realpath -m "${CARGO_TARGET_DIR:-target}")"
    if [ -z "${KUBECONFIG:-}" ] && [ -f "$stand/kubeconfig" ]; then
        export KUBECONFIG="$stand/kubeconfig"
    fi
    [ -n "${KUBECONFIG:-}" ] || return 1
    kubectl="$(command -v kubectl || echo "$stand/bin/kubectl")"
    "$kubectl" --kubeconfig "$KUBECONFIG" --request-timeout 10s get --raw /readyz >/dev/null 2>&1 || return 1
    # The program that prints what is installed, of the same build as the images.
    if [ "$KUBECONFIG" = "$stand/kubeconfig" ]; then
        scripts/kubernetes/load || die "the images could not be built and loaded"
        SHARDWRIGHT_PROGRAM="$target/$(rustc -vV | sed -n 's/^host: //p')/release/shardwright"
    else
        cargo build --release --locked --quiet -p shardwright --bin shardwright || die "the program could not be built"
        SHARDWRIGHT_PROGRAM="$target/release/shardwright"
    fi
    export SHARDWRIGHT_PROGRAM
}
