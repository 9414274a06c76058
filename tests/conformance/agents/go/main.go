// The agent of the Go client: performs what the runner asks for. ../../README.md has the protocol.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strings"
	"sync"
	"time"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
)

const patience = 5 * time.Second // for what ends a moment later than its client

// fault: the runner asks for what there is not.
type fault string

func (f fault) Error() string { return string(f) }

// stream is what an operation has opened.
type stream interface {
	close() error
	cancel()
	abandon() // its client has been closed
}

// agent has the clients and streams that the runner has named, and the operations under way.
type agent struct {
	out sync.Mutex

	mu      sync.Mutex
	clients map[string]*sidecar.Client
	streams map[string]stream
	owners  map[string]string // whose client a stream is of
	running map[int]context.CancelFunc
	before  map[string]int
}

func main() {
	a := &agent{clients: map[string]*sidecar.Client{}, streams: map[string]stream{}, owners: map[string]string{}, running: map[int]context.CancelFunc{}}
	a.say(map[string]any{"event": "started", "language": "go", "version": sidecar.Version})
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	var operations sync.WaitGroup
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var asked request
		if err := json.Unmarshal(line, &asked); err != nil {
			fmt.Fprintln(os.Stderr, "not understood:", err)
			os.Exit(1)
		}
		ctx, cancel := context.WithCancel(context.Background())
		a.mu.Lock()
		a.running[asked.ID] = cancel
		a.mu.Unlock()
		begun := make(chan struct{})
		operations.Add(1)
		go func() {
			defer operations.Done()
			defer cancel()
			close(begun) // the next line is looked at only now
			a.answer(ctx, &asked)
			a.mu.Lock()
			delete(a.running, asked.ID)
			a.mu.Unlock()
		}()
		<-begun
	}
	a.mu.Lock()
	for _, cancel := range a.running {
		cancel()
	}
	a.mu.Unlock()
	for _, node := range a.clients {
		_ = node.Close()
	}
	operations.Wait()
}

func (a *agent) say(line any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	a.out.Lock()
	defer a.out.Unlock()
	_, _ = os.Stdout.Write(append(text, '\n'))
}

func (a *agent) answer(ctx context.Context, asked *request) {
	if asked.Timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, milliseconds(*asked.Timeout))
		defer cancel()
	}
	answer, err := a.perform(ctx, asked)
	if err != nil {
		a.say(map[string]any{"id": asked.ID, "error": described(err)})
		return
	}
	a.say(map[string]any{"id": asked.ID, "ok": answer})
}

func (a *agent) perform(ctx context.Context, asked *request) (any, error) {
	switch asked.Op {
	case "connect":
		return a.connect(ctx, asked)
	case "close":
		node, err := a.client(asked)
		if err != nil {
			return nil, err
		}
		err = node.Close()
		a.abandon(asked.Client)
		return fields{}, err
	case "cancel":
		return a.cancelOperation(asked)
	case "leaks":
		return a.leaks(), nil
	case "open_stream":
		return a.openStream(ctx, asked)
	case "read", "answer":
		found, err := find[feedStream](a, asked.Stream)
		if err != nil {
			return nil, err
		}
		if asked.Op == "answer" {
			return fields{}, found.answer(asked)
		}
		return found.read(asked), nil
	case "settle":
		found, err := find[feedStream](a, asked.Stream)
		if err != nil {
			return nil, err
		}
		return found.settle(ctx, asked)
	case "close_stream":
		found, err := find[stream](a, asked.Stream)
		if err != nil {
			return nil, err
		}
		return fields{}, found.close()
	case "write", "read_bytes", "close_write", "reset":
		found, err := find[*byteStream](a, asked.Stream)
		if err != nil {
			return nil, err
		}
		return found.perform(asked)
	}
	node, err := a.client(asked)
	if err != nil {
		return nil, err
	}
	if call, ok := calls[asked.Op]; ok {
		return call(ctx, node, asked)
	}
	if open, ok := feeds[asked.Op]; ok {
		return a.open(node, asked, open)
	}
	return nil, fault("no operation " + asked.Op)
}

func (a *agent) client(asked *request) (*sidecar.Client, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if node := a.clients[asked.Client]; node != nil {
		return node, nil
	}
	return nil, fault("no client " + asked.Client)
}

func find[S any](a *agent, name string) (S, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	found, ok := a.streams[name].(S)
	if !ok {
		return found, fault(name + " is no stream, or not one for this")
	}
	return found, nil
}

func (a *agent) keep(client, name string, opened stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.streams[name], a.owners[name] = opened, client
}

// abandon lets go of what a closed client has had.
func (a *agent) abandon(client string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, owner := range a.owners {
		if owner == client {
			a.streams[name].abandon()
		}
	}
}

func (a *agent) connect(ctx context.Context, asked *request) (any, error) {
	a.mu.Lock()
	if a.before == nil {
		a.before = surroundings()
	}
	a.mu.Unlock()
	var options []sidecar.Option
	if asked.Target != nil {
		options = append(options, sidecar.WithTarget(*asked.Target))
	}
	if asked.Wait != nil {
		options = append(options, sidecar.WithWait(milliseconds(*asked.Wait)))
	}
	if asked.Reconnect != nil {
		options = append(options, sidecar.WithReconnect(*asked.Reconnect))
	}
	if asked.Token != nil {
		options = append(options, sidecar.WithToken(*asked.Token))
	}
	if asked.TokenFile != nil {
		options = append(options, sidecar.WithTokenFile(*asked.TokenFile))
	}
	if asked.TLSCA != "" || asked.TLSCert != "" || asked.TLSKey != "" {
		options = append(options, sidecar.WithTLSFiles(asked.TLSCA, asked.TLSCert, asked.TLSKey))
	}
	node, err := sidecar.Connect(ctx, options...)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clients[asked.Client] = node
	return fields{"target": node.Target()}, nil
}

func (a *agent) cancelOperation(asked *request) (any, error) {
	if asked.Stream != "" {
		found, err := find[stream](a, asked.Stream)
		if err != nil {
			return nil, err
		}
		found.cancel()
		return fields{}, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if cancel := a.running[asked.Operation]; cancel != nil {
		cancel()
	}
	return fields{}, nil
}

// leaks is what there is more of than before the first client: goroutines that run the library's or gRPC's code, sockets.
func (a *agent) leaks() any {
	until := time.Now().Add(patience)
	for {
		left := []string{}
		now := surroundings()
		a.mu.Lock()
		for what, count := range now {
			if count > a.before[what] {
				left = append(left, what)
			}
		}
		a.mu.Unlock()
		if len(left) == 0 || time.Now().After(until) {
			sort.Strings(left)
			return fields{"left": left}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func surroundings() map[string]int {
	found := map[string]int{}
	stacks := make([]byte, 16<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, stack := range strings.Split(string(stacks), "\n\n") {
		if strings.Contains(stack, "clients/go.") || strings.Contains(stack, "google.golang.org/grpc") {
			lines := strings.Split(stack, "\n")
			found["goroutine "+lines[len(lines)-2]]++ // where it was created
		}
	}
	descriptors, _ := os.ReadDir("/proc/self/fd")
	for _, descriptor := range descriptors {
		target, err := os.Readlink("/proc/self/fd/" + descriptor.Name())
		if err == nil && strings.HasPrefix(target, "socket:") {
			found["socket "+target]++
		}
	}
	return found
}
