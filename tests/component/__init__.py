"""Tests against a real kube-apiserver, etcd and controller-manager; only the kubelet is a stand-in."""
