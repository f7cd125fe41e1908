module github.com/clusterca/clusterca/internal/lint

go 1.26.0

require github.com/clusterca/clusterca v0.0.0

require (
	github.com/Netflix/bettertls v0.0.0-20250909192348-e1e99e353074
	github.com/google/uuid v1.3.0 // indirect
)

replace github.com/clusterca/clusterca => ../..
