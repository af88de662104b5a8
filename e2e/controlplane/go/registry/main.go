// Command registry serves an in-memory OCI registry on loopback for the
// end-to-end tests: go-containerregistry's test registry, with or without the
// OCI 1.1 referrers API, because clients must cope with both.
package main

import (
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	referrers := flag.Bool("referrers", true, "serve the OCI 1.1 referrers API")
	flag.Parse()

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	// The parent waits for this line; it is the ready signal and names the port.
	if _, err := io.WriteString(os.Stdout, listener.Addr().String()+"\n"); err != nil {
		log.Fatal(err)
	}
	handler := registry.New(
		registry.WithReferrersSupport(*referrers),
		registry.Logger(log.New(io.Discard, "", 0)),
	)
	log.Fatal(http.Serve(listener, handler))
}
