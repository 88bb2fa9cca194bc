//go:build tools

// Package tools names the programs that are built from this module, so that `go mod tidy` keeps what they need.
// It is a module of its own: in one with Kubernetes 1.36 the CRI types of the two do not match.
package tools

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
	_ "github.com/containerd/containerd/v2/cmd/ctr"
)
