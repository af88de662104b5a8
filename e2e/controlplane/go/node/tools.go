//go:build tools

// Package tools names the programs of a Kubernetes node (and the scheduler, which
// only a node makes worth having), so that `go mod tidy` keeps what they need in go.sum.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
