// Command registry serves an in-memory OCI registry for the end-to-end tests:
// go-containerregistry's test registry, with or without the OCI 1.1 referrers
// API, because clients must cope with both; with or without a login, likewise.
//
// SIGUSR1 takes it off the network (connections are refused), SIGUSR2 puts it
// back with what it holds: an outage that loses nothing.
package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	referrers := flag.Bool("referrers", true, "serve the OCI 1.1 referrers API")
	login := flag.String("login", "", "file with one line USER:PASSWORD that all must present")
	flag.Parse()

	handler := registry.New(
		registry.WithReferrersSupport(*referrers),
		registry.Logger(log.New(io.Discard, "", 0)),
	)
	if *login != "" {
		text, err := os.ReadFile(*login)
		if err != nil {
			log.Fatal(err)
		}
		handler = guarded(strings.TrimRight(string(text), "\r\n"), handler)
	}
	orders := make(chan os.Signal, 8)
	signal.Notify(orders, syscall.SIGUSR1, syscall.SIGUSR2)

	server, address := open(*listen, handler)
	// The parent waits for this line; it is the ready signal and names the port.
	if _, err := io.WriteString(os.Stdout, address+"\n"); err != nil {
		log.Fatal(err)
	}
	for order := range orders {
		switch {
		case order == syscall.SIGUSR1 && server != nil:
			_ = server.Close() // the listener and every connection
			server = nil
		case order == syscall.SIGUSR2 && server == nil:
			server, _ = open(address, handler)
		}
	}
}

func open(address string, handler http.Handler) (*http.Server, string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()
	return server, listener.Addr().String()
}

// guarded asks for one login, by HTTP basic authentication, on every request.
func guarded(login string, next http.Handler) http.Handler {
	user, password, found := strings.Cut(login, ":")
	if !found || user == "" || password == "" {
		log.Fatal("the login file must hold USER:PASSWORD")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gotUser, gotPassword, _ := r.BasicAuth()
		if !same(gotUser, user) || !same(gotPassword, password) {
			w.Header().Set("WWW-Authenticate", `Basic realm="trailgate-e2e"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w,
				`{"errors":[{"code":"UNAUTHORIZED","message":"a login is needed"}]}`)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// same compares in constant time, whatever the lengths.
func same(got, want string) bool {
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
