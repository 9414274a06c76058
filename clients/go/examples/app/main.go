// App is a small app as it runs in a container beside its sidecar: it may start before the sidecar does, and outlives its
// restarts.
//
//	go run ./examples/app
//
// PORT says where it serves HTTP (by default 8080), SIDECAR_API where the sidecar is.
//
//	GET  /healthz      200 as long as the process lives
//	GET  /readyz       200 when the sidecar is ready and this app has begun to work there, else 503 and why
//	POST /say          publishes the body, which the apps at all peers hear; what became of it
//	GET  /heard        the last messages heard
//	GET  /ask?peer=ID  asks the app at a peer how many messages it has heard
//
// On SIGTERM it is no longer ready, finishes what is under way, and ends.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
)

const (
	topic    = "example-app"
	protocol = "/example/app/1"
	kept     = 100 // messages
	timeout  = 5 * time.Second
	probe    = time.Second // Kubernetes waits no longer for a probe
	draining = 10 * time.Second
	maxBody  = 64 << 10
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1) // whoever started it starts it again
	}
}

func run(ctx context.Context) error {
	listener, err := net.Listen("tcp", ":"+cmp.Or(os.Getenv("PORT"), "8080"))
	if err != nil {
		return err
	}
	made := &app{why: "not connected to the sidecar yet"}
	web := &http.Server{Handler: made.routes(), ReadHeaderTimeout: timeout}
	failed := make(chan error, 2)
	go func() { failed <- web.Serve(listener) }()
	fmt.Println("serving HTTP at port", listener.Addr().(*net.TCPAddr).Port)

	// What it does in the mesh ends behind what is under way, not with ctx.
	life, end := context.WithCancel(context.Background())
	left := make(chan struct{})
	go func() {
		defer close(left)
		if err := made.work(life); life.Err() == nil {
			failed <- err
		}
	}()
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	made.drain(web)
	end()
	<-left
	return err
}

// app is what there is between the web and the mesh.
type app struct {
	mu     sync.Mutex
	node   *sidecar.Client // nil until it works at the sidecar
	server *sidecar.Server
	why    string // it does not; empty when it does
	ending bool
	heard  []heard
	count  int
}

type heard struct {
	From string `json:"from"`
	Text string `json:"text"`
}

// drain takes nothing new, and waits for what is under way.
func (a *app) drain(web *http.Server) {
	a.mu.Lock()
	a.ending = true
	server := a.server
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), draining)
	defer cancel()
	err := web.Shutdown(ctx)
	if server != nil {
		err = errors.Join(err, server.Shutdown(ctx))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "app: not all was finished:", err)
	}
}

// ---------------------------------------------------------------- the mesh

// work takes part in the mesh until ctx ends. It waits for the sidecar as long as that takes; all that follows comes back
// by itself when the sidecar restarts, so that an error is one that stays.
func (a *app) work(ctx context.Context) error {
	node, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer node.Close()
	server, err := node.Serve(ctx, []string{protocol}, a.answer)
	if err != nil {
		return err
	}
	news, err := node.Subscribe(ctx, []string{topic})
	if err != nil {
		return err
	}
	info, err := node.Info(ctx)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.node, a.server, a.why = node, server, ""
	a.mu.Unlock()
	fmt.Println("working as", info.PeerID)
	listening := make(chan error, 1)
	go func() { listening <- a.listen(news) }()
	select {
	case <-server.Done():
		if err := server.Wait(); err != nil {
			return err
		}
		<-ctx.Done() // it was shut down
		return nil
	case err := <-listening:
		return err
	}
}

func (a *app) connect(ctx context.Context) (*sidecar.Client, error) {
	for {
		node, err := sidecar.Connect(ctx, sidecar.WithWait(timeout))
		if !errors.Is(err, sidecar.ErrSidecarUnavailable) {
			return node, err // what is malformed does not mend itself
		}
		a.mu.Lock()
		a.why = err.Error()
		a.mu.Unlock()
		select {
		case <-time.After(100 * time.Millisecond): // some errors come at once
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// answer answers an app at a peer.
func (a *app) answer(context.Context, *sidecar.Request) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strconv.AppendInt(nil, int64(a.count), 10), nil
}

func (a *app) listen(news *sidecar.Subscription) error {
	for event, err := range news.Events() {
		if err != nil {
			return err
		}
		if event.Lagged != nil {
			fmt.Println(event.Lagged)
			continue
		}
		a.mu.Lock()
		a.count++
		a.heard = append(a.heard, heard{event.Message.Sender, string(event.Message.Data)})
		a.heard = a.heard[max(0, len(a.heard)-kept):]
		a.mu.Unlock()
	}
	return nil
}

// ---------------------------------------------------------------- the web

func (a *app) routes() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /healthz", func(out http.ResponseWriter, _ *http.Request) { fmt.Fprintln(out, "alive") })
	routes.HandleFunc("GET /readyz", func(out http.ResponseWriter, request *http.Request) {
		if why := a.unready(request.Context()); why != "" {
			http.Error(out, why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(out, "ready")
	})
	routes.HandleFunc("POST /say", a.with(func(ctx context.Context, node *sidecar.Client, request *http.Request) (any, error) {
		text, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		receipt, err := node.Publish(ctx, topic, text)
		return map[string]any{"outcome": receipt.Outcome.String(), "peers": receipt.Peers}, err
	}))
	routes.HandleFunc("GET /ask", a.with(func(ctx context.Context, node *sidecar.Client, request *http.Request) (any, error) {
		count, err := node.Request(ctx, request.URL.Query().Get("peer"), protocol, nil)
		return json.RawMessage(count), err
	}))
	routes.HandleFunc("GET /heard", a.with(func(context.Context, *sidecar.Client, *http.Request) (any, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		return append([]heard{}, a.heard...), nil
	}))
	return routes
}

// unready says why this app is not ready; empty when it is. It asks the sidecar: one that is gone is told of at once.
func (a *app) unready(ctx context.Context) string {
	a.mu.Lock()
	node, why, ending := a.node, a.why, a.ending
	a.mu.Unlock()
	if ending {
		return "it ends"
	}
	if why != "" {
		return why
	}
	ctx, cancel := context.WithTimeout(ctx, probe)
	defer cancel()
	readiness, err := node.Readiness(ctx)
	if err != nil {
		return err.Error()
	}
	var unmet []string
	for _, condition := range readiness.Conditions {
		if !condition.Met {
			unmet = append(unmet, strings.TrimSpace(condition.Type+": "+condition.Message+" "+condition.Remedy))
		}
	}
	return strings.Join(unmet, "; ")
}

// with runs what needs the sidecar, and writes what it returns as JSON.
func (a *app) with(work func(context.Context, *sidecar.Client, *http.Request) (any, error)) http.HandlerFunc {
	return func(out http.ResponseWriter, request *http.Request) {
		a.mu.Lock()
		node, why := a.node, a.why
		a.mu.Unlock()
		if node == nil {
			http.Error(out, why, http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(request.Context(), timeout)
		defer cancel()
		request.Body = http.MaxBytesReader(out, request.Body, maxBody)
		said, err := work(ctx, node, request)
		var tooLarge *http.MaxBytesError
		var failure *sidecar.Error
		switch {
		case err == nil:
			_ = json.NewEncoder(out).Encode(said) // whoever asked may have gone
		case errors.As(err, &tooLarge):
			http.Error(out, fmt.Sprintf("at most %d bytes", maxBody), http.StatusRequestEntityTooLarge)
		case errors.As(err, &failure):
			http.Error(out, failure.Name()+": "+failure.Message, http.StatusServiceUnavailable)
		default:
			http.Error(out, err.Error(), http.StatusInternalServerError)
		}
	}
}
