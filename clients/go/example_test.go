package sidecar_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"slices"
	"time"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
)

// These run beside the sidecar that TestMain starts; its only peer is this one.
const peerID = other

func connect() *sidecar.Client {
	node, err := sidecar.Connect(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	return node
}

func Example() {
	ctx := context.Background()
	node, err := sidecar.Connect(ctx) // SIDECAR_API, else the default Unix socket
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	news, err := node.Subscribe(ctx, []string{"news"}) // in force from here on
	if err != nil {
		log.Fatal(err)
	}
	receipt, err := node.Publish(ctx, "news", []byte("hello"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(receipt.Outcome, receipt.Peers)
	for message, err := range news.Messages() { // reconnects and resumes by itself
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(message.Data))
		break
	}
	// Output:
	// SENT 1
	// hello
}

// An app that comes up before its sidecar waits for it, here for as long as its own context lets it.
func ExampleConnect() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	node, err := sidecar.Connect(ctx, sidecar.WithWait(time.Hour))
	switch {
	case errors.Is(err, sidecar.ErrSidecarUnavailable):
		log.Fatal(err) // says where it looked, how often and for how long
	case err != nil:
		log.Fatal(err)
	}
	defer node.Close()
	info, err := node.Info(ctx)
	fmt.Println(info.Network, err)
	// Output: test <nil>
}

// Every failure is an *Error of a kind; kinds stand below each other.
func ExampleError() {
	node := connect()
	defer node.Close()
	_, err := node.FindPeer(context.Background(), "12D3KooWGRUVh9jxBpLzSbmkGUiyUEvzfSGHmsSfVCmNNU4hXpyH")
	fmt.Println(errors.Is(err, sidecar.ErrNotFound), errors.Is(err, sidecar.ErrUnreachable))
	var failure *sidecar.Error
	if errors.As(err, &failure) {
		fmt.Println(failure.Name(), failure.Reason, failure.Code)
	}
	// Output:
	// true false
	// NotFound NOT_FOUND NotFound
}

func ExampleClient_Ready() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	node := connect()
	defer node.Close()
	readiness, err := node.Ready(ctx) // waits
	fmt.Println(readiness.Ready, err)
	// Output: true <nil>
}

func ExampleClient_WatchPeers() {
	node := connect()
	defer node.Close()
	for event, err := range node.WatchPeers(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		switch event.Type {
		case sidecar.PeersReconnected, sidecar.PeersLagged:
			fmt.Println("forget what is known: it is told anew")
		case sidecar.PeersCurrent:
			fmt.Println("that was all, for now")
			return
		default:
			fmt.Println(event.Type, event.Peer.PeerID)
		}
	}
	// Output:
	// PRESENT 12D3KooWOther
	// that was all, for now
}

// One goroutine publishes many messages, each with a receipt of its own. They go together in few calls, in this order.
func ExampleClient_PublishAsync() {
	ctx := context.Background()
	node := connect()
	defer node.Close()
	var pending []*sidecar.Pending[sidecar.PublishReceipt]
	for number := range 1000 {
		pending = append(pending, node.PublishAsync(ctx, "news", fmt.Appendf(nil, "message %d", number)))
	}
	for _, one := range pending {
		if _, err := one.Wait(); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(len(pending), "sent")
	// Output: 1000 sent
}

func ExamplePending() {
	node := connect()
	defer node.Close()
	pending := node.SendAsync(context.Background(), peerID, "/chat/1", []byte("hello"))
	select {
	case <-pending.Done():
		receipt, err := pending.Wait() // at once
		fmt.Println(receipt.Outcome, err)
	case <-time.After(time.Minute):
		fmt.Println("it takes long")
	}
	// Output: DELIVERED <nil>
}

// A message with an id is safe to send again, and is, when the connection is lost.
func ExampleClient_Publish() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	node := connect()
	defer node.Close()
	receipt, err := node.Publish(ctx, "news", []byte("order 7"), sidecar.WithRequestID("order-7"))
	switch {
	case errors.Is(err, sidecar.ErrTooLarge), errors.Is(err, sidecar.ErrTopicOptionsDiffer):
		log.Fatal(err)
	case err != nil:
		log.Fatal(err)
	case receipt.Outcome == sidecar.PublishNoPeers:
		fmt.Println("nobody else is there yet")
	default:
		fmt.Println(receipt.Outcome)
	}
	// Output: SENT
}

func ExampleClient_PublishMany() {
	node := connect()
	defer node.Close()
	payloads := [][]byte{[]byte("one"), []byte("two"), []byte("three")}
	receipts, err := node.PublishMany(context.Background(), "news", slices.Values(payloads))
	if err != nil {
		log.Fatal(err)
	}
	for _, several := range receipts {
		fmt.Println("from", several.First, "on:", several.Count, several.Outcome)
	}
	// Output: from 0 on: 3 SENT
}

// Messages that come over time are a channel: what has come while a batch was written goes with the next one.
func ExampleClient_PublishFrom() {
	node := connect()
	defer node.Close()
	readings := make(chan []byte)
	go func() {
		defer close(readings) // ends the call
		for number := range 3 {
			readings <- fmt.Appendf(nil, "%d degrees", 20+number)
		}
	}()
	receipts, err := node.PublishFrom(context.Background(), "readings", readings)
	fmt.Println(receipts[0].Count, err)
	// Output: 3 <nil>
}

func ExampleClient_SendMany() {
	node := connect()
	defer node.Close()
	lines := func(yield func([]byte) bool) { // any iterator; it is read while the messages go out
		for number := range 3 {
			if !yield(fmt.Appendf(nil, "line %d", number)) {
				return
			}
		}
	}
	receipts, err := node.SendMany(context.Background(), peerID, "/lines/1", lines)
	fmt.Println(receipts[0].Count, receipts[0].Outcome, err)
	// Output: 3 DELIVERED <nil>
}

func ExampleSubscription_Events() {
	ctx := context.Background()
	node := connect()
	defer node.Close()
	news, err := node.Subscribe(ctx, []string{"news"}, sidecar.WithQueueMessages(1000))
	if err != nil {
		log.Fatal(err)
	}
	defer news.Close()
	if _, err := node.Publish(ctx, "news", []byte("one")); err != nil {
		log.Fatal(err)
	}
	for event, err := range news.Events() {
		switch {
		case err != nil:
			log.Fatal(err)
		case event.Lagged != nil:
			fmt.Println("missed", event.Lagged.Missed, event.Lagged.Reason)
		default:
			fmt.Println(event.Message.Topic, string(event.Message.Data))
			return
		}
	}
	// Output: news one
}

// Batches are the fastest way to read. The cursor is behind the batch in hand: kept with what was made of the batch, it
// lets a later run go on exactly there.
func ExampleSubscription_Batches() {
	ctx := context.Background()
	node := connect()
	defer node.Close()
	var kept []byte // in a database, say
	news, err := node.Subscribe(ctx, []string{"news"}, sidecar.WithCursor(kept))
	if err != nil {
		log.Fatal(err)
	}
	defer news.Close()
	if _, err := node.Publish(ctx, "news", []byte("one")); err != nil {
		log.Fatal(err)
	}
	for batch, err := range news.Batches() {
		if err != nil {
			log.Fatal(err)
		}
		for payload := range batch.Payloads() {
			fmt.Println(string(payload))
		}
		kept = news.Cursor()
		break
	}
	fmt.Println(len(kept) > 0)
	// Output:
	// one
	// true
}

func ExampleClient_Serve() {
	ctx := context.Background()
	node := connect()
	defer node.Close()
	greet := func(_ context.Context, request *sidecar.Request) ([]byte, error) {
		if len(request.Data) == 0 {
			return nil, sidecar.Refuse("say who you are")
		}
		return append([]byte("hello, "), request.Data...), nil
	}
	server, err := node.Serve(ctx, []string{"/greet/1"}, greet)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	// An app at a peer asks:
	answer, err := node.Request(ctx, peerID, "/greet/1", []byte("ann"))
	fmt.Println(string(answer), err)
	_, err = node.Request(ctx, peerID, "/greet/1", nil)
	fmt.Println(errors.Is(err, sidecar.ErrRefused), err)
	// Output:
	// hello, ann <nil>
	// true say who you are
}

func ExampleClient_Request() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second) // travels to the far end
	defer cancel()
	node := connect()
	defer node.Close()
	_, err := node.Request(ctx, peerID, "/nobody/1", []byte("is anybody there?"))
	switch {
	case errors.Is(err, sidecar.ErrNotSupported):
		fmt.Println("nobody serves that there")
	case errors.Is(err, sidecar.ErrUnreachable): // ErrDialTimeout, ErrNoAddresses and others are kinds of it
		fmt.Println("nobody answers there")
	case errors.Is(err, sidecar.ErrDeadlineExceeded):
		fmt.Println("too slow")
	}
	// Output: nobody serves that there
}

// An Acceptor is a net.Listener, so that whatever serves one, net/http too, serves peers.
func ExampleClient_AcceptStreams() {
	ctx := context.Background()
	node := connect()
	defer node.Close()
	listener, err := node.AcceptStreams(ctx, "/echo/1")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				log.Print(err)
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	// An app at a peer opens a stream:
	stream, err := node.OpenStream(ctx, peerID, "/echo/1")
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	_, _ = io.WriteString(stream, "hello")
	_ = stream.CloseWrite()
	heard, err := io.ReadAll(stream)
	fmt.Println(string(heard), err)
	// Output: hello <nil>
}

// A context that ends resets the stream, whatever waits for it.
func ExampleStream_ResetWith() {
	node := connect()
	defer node.Close()
	listener, err := node.AcceptStreams(context.Background(), "/silent/1")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	stream, err := node.OpenStream(context.Background(), peerID, "/silent/1")
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	defer stream.ResetWith(ctx)() // lets go of the context again
	_, err = io.Copy(os.Stdout, stream)
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output: true
}

func ExampleClient_Probe() {
	node := connect()
	defer node.Close()
	for news, err := range node.Probe(context.Background(), "news", sidecar.WithMessages(5)) {
		switch {
		case err != nil:
			fmt.Println(errors.Is(err, sidecar.ErrNotFound))
		case news.Answer != nil:
			fmt.Println(news.Answer.PeerID, news.Answer.Delay)
		default:
			fmt.Println(news.Summary.Answers, "answers of", news.Summary.Peers, "peers")
		}
	}
	// Output: true
}

func ExampleClient_FindPeers() {
	node := connect()
	defer node.Close()
	for found, err := range node.FindPeers(context.Background(), "word-counter", sidecar.WithLimit(2)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(found.PeerID, found.Addresses)
	}
	// Output:
	// word-counter0 [/ip4/127.0.0.1/tcp/3]
	// word-counter1 [/ip4/127.0.0.1/tcp/3]
}

func ExampleClient_PutRecord() {
	ctx := context.Background()
	node := connect()
	defer node.Close()
	receipt, err := node.PutRecord(ctx, "/app/setting", []byte("on"), sidecar.WithQuorum(1))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(receipt.Stored, "of", receipt.Asked)
	_, err = node.PutRecord(ctx, "/app/setting", []byte("on"), sidecar.WithQuorum(20))
	fmt.Println(errors.Is(err, sidecar.ErrNoQuorum))
	// Output:
	// 1 of 2
	// true
}
