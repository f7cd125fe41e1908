module github.com/clusterca/clusterca

go 1.26.0
