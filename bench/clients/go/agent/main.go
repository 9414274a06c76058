// The Go agent of the client benchmark, orders as JSON lines on standard input; ../../README.md has them. What is done by
// `stub` uses the generated code and gRPC's defaults, as an app without the client would.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

const (
	protocol = "/bench/1"
	longest  = 16 << 20 // bytes of an order
)

var (
	errUnexpected = errors.New("another answer than expected")
	background    = context.Background()
)

type order struct {
	Op      string `json:"op"`
	Target  string `json:"target"`
	Via     string `json:"via"`
	Topic   string `json:"topic"`
	Count   int    `json:"count"`
	Cursor  []byte `json:"cursor"`
	PerPass int    `json:"per_pass"`
	Size    int    `json:"size"`
	Batch   int    `json:"batch"`
	Many    int    `json:"many"`
	PeerID  string `json:"peer_id"`
}

type agent struct {
	clients map[string]*sidecar.Client
	stubs   map[string]*grpc.ClientConn
	number  atomic.Uint64
}

func (a *agent) client(target string) (*sidecar.Client, error) {
	if found := a.clients[target]; found != nil {
		return found, nil
	}
	made, err := sidecar.Connect(background, sidecar.WithTarget(target), sidecar.WithReconnect(false))
	if err == nil {
		a.clients[target] = made
	}
	return made, err
}

func (a *agent) stub(target string) (*grpc.ClientConn, error) {
	if found := a.stubs[target]; found != nil {
		return found, nil
	}
	made, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		a.stubs[target] = made
	}
	return made, err
}

// payload differs from all others: on an unsigned topic the same data is one message.
func (a *agent) payload(size int) []byte {
	data := make([]byte, size)
	binary.BigEndian.PutUint64(data, a.number.Add(1))
	return data
}

// ---------------------------------------------------------------- subscribing

func (a *agent) subscribe(given order) (any, error) {
	read, known := map[string]func(order, int) (int, error){
		"stub": a.readStub, "batches": a.readBatches, "messages": a.readMessages,
	}[given.Via]
	if !known {
		return nil, fmt.Errorf("no way %q", given.Via)
	}
	began := time.Now()
	bytes := 0
	for seen := 0; seen < given.Count; {
		wanted := given.Count - seen
		if given.PerPass > 0 {
			wanted = min(wanted, given.PerPass)
		}
		size, err := read(given, wanted)
		if err != nil {
			return nil, err
		}
		bytes += size
		seen += wanted
	}
	return map[string]any{"seconds": time.Since(began).Seconds(), "bytes": bytes}, nil
}

func (a *agent) readStub(given order, wanted int) (int, error) {
	connection, err := a.stub(given.Target)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	stream, err := pb.NewPubSubServiceClient(connection).Subscribe(ctx, &pb.SubscribeRequest{
		Topics: []string{given.Topic}, Cursor: given.Cursor, Signing: pb.Signing_SIGNING_STRICT_NO_SIGN,
	})
	if err != nil {
		return 0, err
	}
	seen, size := 0, 0
	for seen < wanted {
		response, err := stream.Recv()
		if err != nil {
			return 0, err
		}
		for _, message := range response.Messages {
			size += len(message.Data)
		}
		seen += len(response.Messages)
	}
	return size, nil
}

func (a *agent) subscription(given order) (*sidecar.Subscription, error) {
	client, err := a.client(given.Target)
	if err != nil {
		return nil, err
	}
	return client.Subscribe(
		background, []string{given.Topic}, sidecar.WithCursor(given.Cursor), sidecar.WithSigning(sidecar.SigningStrictNoSign),
	)
}

func (a *agent) readBatches(given order, wanted int) (int, error) {
	subscription, err := a.subscription(given)
	if err != nil {
		return 0, err
	}
	defer subscription.Close()
	seen, size := 0, 0
	for batch, err := range subscription.Batches() {
		if err != nil {
			return 0, err
		}
		if batch.Lagged() != nil {
			return 0, errUnexpected
		}
		for payload := range batch.Payloads() {
			size += len(payload)
		}
		seen += batch.Len()
		if seen >= wanted {
			break
		}
	}
	return size, nil
}

func (a *agent) readMessages(given order, wanted int) (int, error) {
	subscription, err := a.subscription(given)
	if err != nil {
		return 0, err
	}
	defer subscription.Close()
	seen, size := 0, 0
	for message, err := range subscription.Messages() {
		if err != nil {
			return 0, err
		}
		size += len(message.Data)
		seen++
		if seen >= wanted {
			break
		}
	}
	return size, nil
}

// ---------------------------------------------------------------- publishing

func (a *agent) publish(given order) (any, error) {
	publish, known := map[string]func(order) error{
		"stub": a.publishStub, "publish_many": a.publishMany, "publish": a.publishEach,
	}[given.Via]
	if !known {
		return nil, fmt.Errorf("no way %q", given.Via)
	}
	began := time.Now()
	err := publish(given)
	return map[string]any{"seconds": time.Since(began).Seconds()}, err
}

func (a *agent) publishStub(given order) error {
	connection, err := a.stub(given.Target)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	stream, err := pb.NewPubSubServiceClient(connection).PublishMany(ctx)
	if err != nil {
		return err
	}
	written := make(chan error, 1)
	go func() {
		for sent := 0; sent < given.Count; {
			request := &pb.PublishManyRequest{}
			if sent == 0 {
				request.Topic, request.Signing = given.Topic, pb.Signing_SIGNING_STRICT_NO_SIGN
			}
			for range min(given.Batch, given.Count-sent) {
				request.Messages = append(request.Messages, &pb.OutgoingMessage{Data: a.payload(given.Size)})
			}
			sent += len(request.Messages)
			if err := stream.Send(request); err != nil {
				written <- err
				return
			}
		}
		written <- stream.CloseSend()
	}()
	answered := uint64(0)
	for {
		response, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		for _, receipts := range response.Receipts {
			answered += receipts.Count
		}
	}
	if answered != uint64(given.Count) {
		return errUnexpected
	}
	return <-written
}

func went(outcome sidecar.PublishOutcome) bool {
	return outcome.String() == "SENT" || outcome.String() == "NO_PEERS"
}

func (a *agent) publishMany(given order) error {
	client, err := a.client(given.Target)
	if err != nil {
		return err
	}
	payloads := func(yield func([]byte) bool) {
		for range given.Count {
			if !yield(a.payload(given.Size)) {
				return
			}
		}
	}
	receipts, err := client.PublishMany(
		background, given.Topic, payloads, sidecar.WithSigning(sidecar.SigningStrictNoSign),
	)
	count := uint64(0)
	for _, several := range receipts {
		if went(several.Outcome) {
			count += several.Count
		}
	}
	if err == nil && count != uint64(given.Count) {
		err = errUnexpected
	}
	return err
}

func (a *agent) publishEach(given order) error {
	client, err := a.client(given.Target)
	if err != nil {
		return err
	}
	unsigned := sidecar.WithSigning(sidecar.SigningStrictNoSign)
	return atOnce(given.Many, given.Count, func() error {
		receipt, err := client.Publish(background, given.Topic, a.payload(given.Size), unsigned)
		if err == nil && !went(receipt.Outcome) {
			err = errUnexpected
		}
		return err
	})
}

// atOnce does something count times, many at the same time.
func atOnce(many, count int, once func() error) error {
	var (
		left    atomic.Int64
		working sync.WaitGroup
		failed  = make(chan error, many)
	)
	left.Store(int64(count))
	for range many {
		working.Add(1)
		go func() {
			defer working.Done()
			for left.Add(-1) >= 0 {
				if err := once(); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	working.Wait()
	close(failed)
	return <-failed
}

// ---------------------------------------------------------------- requests

func (a *agent) request(given order) (any, error) {
	data := make([]byte, given.Size)
	var ask func() ([]byte, error)
	if given.Via == "stub" {
		connection, err := a.stub(given.Target)
		if err != nil {
			return nil, err
		}
		direct := pb.NewDirectServiceClient(connection)
		ask = func() ([]byte, error) {
			request := &pb.RequestRequest{PeerId: given.PeerID, Protocol: protocol, Data: data}
			response, err := direct.Request(background, request)
			return response.GetData(), err
		}
	} else {
		client, err := a.client(given.Target)
		if err != nil {
			return nil, err
		}
		ask = func() ([]byte, error) { return client.Request(background, given.PeerID, protocol, data) }
	}
	var lock sync.Mutex
	times := make([]float64, 0, given.Count)
	began := time.Now()
	err := atOnce(given.Many, given.Count, func() error {
		at := time.Now()
		answer, err := ask()
		took := time.Since(at).Seconds() * 1000
		if err == nil && len(answer) != given.Size {
			err = errUnexpected
		}
		lock.Lock()
		times = append(times, took)
		lock.Unlock()
		return err
	})
	seconds := time.Since(began).Seconds()
	if err != nil {
		return nil, err
	}
	slices.Sort(times)
	return map[string]any{
		"seconds": seconds, "p50_ms": times[len(times)*50/100], "p99_ms": times[len(times)*99/100],
	}, nil
}

func (a *agent) serve(given order) (any, error) {
	client, err := a.client(given.Target)
	if err != nil {
		return nil, err
	}
	echo := func(_ context.Context, request *sidecar.Request) ([]byte, error) { return request.Data, nil }
	if _, err := client.Serve(background, []string{protocol}, echo); err != nil {
		return nil, err
	}
	info, err := client.Info(background)
	return map[string]any{"peer_id": info.PeerID}, err
}

func (a *agent) judge(given order) (any, error) {
	client, err := a.client(given.Target)
	if err != nil {
		return nil, err
	}
	accept := func(context.Context, *sidecar.Message) sidecar.Verdict { return sidecar.VerdictAccept }
	_, err = client.Validate(
		background, []string{given.Topic}, accept,
		sidecar.WithFallback(sidecar.FallbackHold), sidecar.WithMaxWaiting(uint32(given.Count)),
	)
	return map[string]any{}, err
}

func main() {
	worker := &agent{clients: map[string]*sidecar.Client{}, stubs: map[string]*grpc.ClientConn{}}
	worker.number.Store(uint64(time.Now().UnixNano()))
	ops := map[string]func(order) (any, error){
		"subscribe": worker.subscribe, "publish": worker.publish, "request": worker.request, "serve": worker.serve,
		"judge": worker.judge,
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longest)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var given order
		err := json.Unmarshal(lines.Bytes(), &given)
		var result any
		if err == nil {
			if op := ops[given.Op]; op != nil {
				result, err = op(given)
			} else {
				err = fmt.Errorf("no op %q", given.Op)
			}
		}
		answer := map[string]any{"ok": result}
		if err != nil {
			answer = map[string]any{"error": err.Error()}
		}
		if answers.Encode(answer) != nil {
			return
		}
	}
	for _, client := range worker.clients {
		_ = client.Close()
	}
}
