// Command components is the unmodified upstream software of a Kubernetes control plane and worker in one
// multi-call binary. It stands in for the payload that a k0s release embeds, where no release can be downloaded.
//
// The component is chosen by the name the program is called by (a link named kube-apiserver runs kube-apiserver),
// or else by the first argument. One binary instead of nine saves link time and disk: the components share most of
// their code.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	kine "github.com/k3s-io/kine/pkg/app"
	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/component-base/version"
	"k8s.io/klog/v2"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	kubeapiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kubecontrollermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubescheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	agentapp "sigs.k8s.io/apiserver-network-proxy/cmd/agent/app"
	agentoptions "sigs.k8s.io/apiserver-network-proxy/cmd/agent/app/options"
	serverapp "sigs.k8s.io/apiserver-network-proxy/cmd/server/app"
	serveroptions "sigs.k8s.io/apiserver-network-proxy/cmd/server/app/options"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// managed is the environment variable by which k0s marks the processes that it starts.
const managed = "_K0S_MANAGED"

// components maps the name of each component to what runs it. Every function returns the exit code.
var components = map[string]func() int{
	"etcd":                    func() int { etcdmain.Main(os.Args); return 0 },
	"kine":                    runKine,
	"konnectivity-agent":      runKonnectivityAgent,
	"konnectivity-server":     runKonnectivityServer,
	"kube-apiserver":          func() int { return cli.Run(kubeapiserver.NewAPIServerCommand()) },
	"kube-controller-manager": func() int { return cli.Run(kubecontrollermanager.NewControllerManagerCommand()) },
	"kube-proxy":              func() int { return cli.Run(kubeproxy.NewProxyCommand()) },
	"kube-scheduler":          func() int { return cli.Run(kubescheduler.NewSchedulerCommand()) },
	"kubectl":                 runKubectl,
	"kubelet":                 func() int { return cli.Run(kubelet.NewKubeletCommand(context.Background())) },
}

func main() {
	name := filepath.Base(os.Args[0])
	run, found := components[name]
	if !found && len(os.Args) > 1 {
		name = os.Args[1]
		if run, found = components[name]; found {
			os.Args = os.Args[1:]
		}
	}
	if !found {
		names := make([]string, 0, len(components))
		for known := range components {
			names = append(names, known)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "no component named %q; call me by, or give as first argument, one of: %s\n", name, strings.Join(names, " "))
		os.Exit(2)
	}
	if os.Getenv(managed) == "yes" {
		// k0s links it into its builds. Here one binary is what upstream builds, and what a k0s starts.
		if err := version.SetDynamicVersion(version.Get().GitVersion + "+k0s"); err != nil {
			fmt.Fprintln(os.Stderr, "version:", err)
			os.Exit(2)
		}
	}
	os.Exit(run())
}

func runKine() int {
	if err := kine.New().Run(os.Args); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "kine:", err)
		return 1
	}
	return 0
}

func runKubectl() int {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
	return 0
}

func runKonnectivityServer() int {
	options := serveroptions.NewProxyRunOptions()
	return runProxy(serverapp.NewProxyCommand(&serverapp.Proxy{}, options), options.Flags())
}

func runKonnectivityAgent() int {
	options := agentoptions.NewGrpcProxyAgentOptions()
	return runProxy(agentapp.NewAgentCommand(&agentapp.Agent{}, options), options.Flags())
}

// runProxy runs a konnectivity command. Its own flags and klog's must both be known to it: k0s passes
// --logtostderr and -v.
func runProxy(command *cobra.Command, options *pflag.FlagSet) int {
	flags := command.Flags()
	flags.AddFlagSet(options)
	logging := flag.NewFlagSet("klog", flag.ExitOnError)
	klog.InitFlags(logging)
	logging.VisitAll(func(f *flag.Flag) {
		f.Name = strings.ReplaceAll(f.Name, "_", "-")
		flags.AddGoFlag(f)
	})
	if err := command.Execute(); err != nil {
		klog.ErrorS(err, "konnectivity ended")
		klog.Flush()
		return 1
	}
	return 0
}
