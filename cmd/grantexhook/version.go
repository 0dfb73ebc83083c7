package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

func versionCommand() command {
	return command{
		name:  "version",
		about: "Print the version of this program.",
		setup: func(a *app, _ *flag.FlagSet) action {
			return func(context.Context, []string) error {
				info, _ := debug.ReadBuildInfo()
				fmt.Fprintf(a.stdout, "grantexhook %s %s %s/%s\n", version(info), runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return nil
			}
		},
	}
}

func version(info *debug.BuildInfo) string {
	if info == nil || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
