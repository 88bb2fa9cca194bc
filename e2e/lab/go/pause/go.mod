module hosted-cp.io/e2e/lab/pause

go 1.26
