module example

go 1.24.0

require github.com/restream/reindexer/v5 v5.15.0
