module grantex.dev/grantexhook

go 1.26.0

// Examples.
require github.com/go-chi/chi/v5 v5.5.0

// Tests.
require github.com/stretchr/testify v1.12.1

require go.yaml.in/yaml/v3 v3.0.5 // indirect
