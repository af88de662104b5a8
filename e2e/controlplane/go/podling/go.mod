module trailgate.dev/e2e/podling

go 1.26.0
