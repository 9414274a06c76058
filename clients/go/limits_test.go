package sidecar_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

const leastRequest = 64 << 10

// What goes together keeps to the sidecar's bound on requests, over which gRPC there ends the call of all. What is over it by
// itself costs nobody else anything.
func TestWhatGoesTogetherKeepsToTheBoundOfTheSidecar(t *testing.T) {
	f := newFake(t)
	f.maxRequest, f.options = leastRequest, []grpc.ServerOption{grpc.MaxRecvMsgSize(leastRequest)}
	f.start()
	node := connected(t, f)
	together(t, f, node, 100_000)
	f.request = nil

	var ready, all sync.WaitGroup // 300 answers that are there at once
	ready.Add(300)
	server, err := node.Serve(t.Context(), []string{"/large/1"}, func(_ context.Context, request *sidecar.Request) ([]byte, error) {
		if len(request.Data) > 0 {
			return make([]byte, leastRequest), nil
		}
		ready.Done()
		ready.Wait()
		return make([]byte, 1000), nil
	}, sidecar.WithConcurrency(300))
	noError(t, err)
	for range 300 {
		all.Add(1)
		go func() {
			defer all.Done()
			answer, err := node.Request(t.Context(), other, "/large/1", nil)
			if err != nil || len(answer) != 1000 {
				t.Error(len(answer), err)
			}
		}()
	}
	all.Wait()
	_, err = node.Request(t.Context(), other, "/large/1", []byte("large"))
	wantError(t, err, sidecar.ErrRefused)
	equal(t, "rejected", server.Rejected(), uint64(1))
	equal(t, "calls", f.count("DirectService/Serve"), 1)
}

// Some servers send no headers before their first response: what they take is not known then, but no call waits for them.
func TestAServerThatSendsNoHeadersOfItsOwn(t *testing.T) {
	sidecar.SetGreeting(t, time.Millisecond)
	f := newFake(t)
	f.maxRequest, f.options = -1, []grpc.ServerOption{grpc.MaxRecvMsgSize(leastRequest)}
	f.start()
	node := connected(t, f)
	together(t, f, node, 0)
	messages := make([][]byte, 300)
	for number := range messages {
		messages[number] = make([]byte, 1000)
	}
	receipts, err := node.PublishMany(t.Context(), "news", slices.Values(messages))
	noError(t, err)
	equal(t, "ranges", len(receipts), 1)
}

// together publishes, sends and asks 300 times at once, with one that is too large in the midst where its size is not 0.
func together(t *testing.T, f *fake, node *sidecar.Client, large int) {
	t.Helper()
	entered, hold := make(chan struct{}), make(chan struct{})
	alone := func(data []byte) { // the first ones wait, so that the others go together
		if len(data) == 0 {
			entered <- struct{}{}
			<-hold
		}
	}
	f.publish = func(_ context.Context, request *pb.PublishRequest) (*pb.PublishResponse, error) {
		alone(request.GetData())
		return &pb.PublishResponse{Receipt: sent(nil)}, nil
	}
	f.send = func(_ context.Context, request *pb.SendRequest) (*pb.SendResponse, error) {
		alone(request.GetData())
		return &pb.SendResponse{Receipt: &pb.SendReceipt{Outcome: pb.SendOutcome_SEND_OUTCOME_DELIVERED}}, nil
	}
	f.request = func(_ context.Context, request *pb.RequestRequest) (*pb.RequestResponse, error) {
		alone(request.GetData())
		return &pb.RequestResponse{Data: request.GetData()}, nil
	}
	var all sync.WaitGroup
	for _, call := range []func(data []byte) error{
		func(data []byte) error { _, err := node.Publish(t.Context(), "news", data); return err },
		func(data []byte) error { _, err := node.Send(t.Context(), other, "/chat/1", data); return err },
		func(data []byte) error { _, err := node.Request(t.Context(), other, "/echo/1", data); return err },
	} {
		for number := range 300 {
			size := 1000
			switch {
			case number == 0:
				size = 0
			case number == 150 && large > 0:
				size = large
			}
			all.Add(1)
			go func() {
				defer all.Done()
				err := call(make([]byte, size))
				if size <= 1000 && err != nil || size > 1000 && !errors.Is(err, sidecar.ErrTooLarge) {
					t.Error(size, err)
				}
			}()
			if number == 0 {
				<-entered
			}
		}
	}
	until(func() bool { return sidecar.Waiting(node) == 598 })
	close(hold)
	all.Wait()
}
