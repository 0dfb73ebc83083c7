module grantex.dev/grantexhook

go 1.26.0
