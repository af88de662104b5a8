// Command podling is everything that runs in the pods of the local e2e cluster
// before there are images of our own: the sandbox's first process (`podling pause`),
// and a small web server and client for trying the network (`podling serve ADDRESS`,
// `podling get URL`). One static file, so an image of it needs no base image.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	arguments := os.Args[1:]
	switch {
	case len(arguments) == 1 && arguments[0] == "pause":
		pause()
	case len(arguments) == 2 && arguments[0] == "serve":
		serve(arguments[1])
	case len(arguments) == 2 && arguments[0] == "get":
		get(arguments[1])
	default:
		log.Fatalf("got %q, expected: pause | serve ADDRESS | get URL", arguments)
	}
}

// pause holds a pod's namespaces: it reaps what is orphaned to it and ends when asked.
func pause() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}

// serve answers every request with the pod's host name, until asked to end.
func serve(address string) {
	name, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	answer := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "%s\n", name) }
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(answer)}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		if err := server.ListenAndServe(); err != http.ErrServerClosed {
			log.Fatal(err)
		}
	}()
	<-ctx.Done()
	bounded, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = server.Shutdown(bounded)
}

// get prints what a URL answers; any status but 200 is a failure.
func get(url string) {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		log.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		log.Fatal(response.Status)
	}
}
