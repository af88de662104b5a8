module trailgate.dev/tests/tlog-oracle

go 1.25.0

require golang.org/x/mod v0.39.0
