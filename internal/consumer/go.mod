module github.com/clusterca/clusterca/internal/consumer

go 1.26.0

require github.com/clusterca/clusterca v0.0.0

replace github.com/clusterca/clusterca => ../..
