module hosted-cp.io/k0s-images/pause

go 1.26
