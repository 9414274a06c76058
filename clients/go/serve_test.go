package sidecar_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

func TestServing(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	server, err := node.Serve(t.Context(), []string{"/greet/1"}, func(ctx context.Context, request *sidecar.Request) ([]byte, error) {
		if _, limited := ctx.Deadline(); limited != (request.TimeLeft > 0) {
			t.Error("the handler's deadline is not that of the asker")
		}
		switch string(request.Data) {
		case "refuse":
			return nil, fmt.Errorf("wrapped: %w", sidecar.Refuse(strings.Repeat("n\u00f6", 2000)))
		case "fail":
			return nil, errors.New("secret")
		case "panic":
			panic("secret")
		}
		return append([]byte(request.PeerID+request.Protocol+" "), request.Data...), nil
	})
	noError(t, err)
	answer, err := node.Request(t.Context(), other, "/greet/1", []byte("hi"))
	noError(t, err)
	equal(t, "answer", string(answer), other+"/greet/1 hi")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = node.Request(ctx, other, "/greet/1", []byte("hi"))
	noError(t, err)
	_, err = node.Request(t.Context(), other, "/greet/1", []byte("refuse"))
	if failure := wantError(t, err, sidecar.ErrRefused); !strings.HasPrefix(failure.Message, "n\u00f6n") || len(failure.Message) > 1024 {
		t.Error(failure)
	}
	for _, way := range []string{"fail", "panic"} {
		_, err = node.Request(t.Context(), other, "/greet/1", []byte(way))
		if failure := wantError(t, err, sidecar.ErrRefused); strings.Contains(failure.Message, "secret") {
			t.Error(failure)
		}
	}
	_, err = node.Serve(t.Context(), []string{"/greet/1"}, silent)
	wantError(t, err, sidecar.ErrAlreadyExists)
	_, err = node.Serve(t.Context(), []string{"/greet/2"}, nil)
	wantError(t, err, sidecar.ErrInvalidArgument)
	_, err = node.Serve(t.Context(), []string{"/greet/2"}, silent, sidecar.WithConcurrency(0))
	wantError(t, err, sidecar.ErrInvalidArgument)
	noError(t, server.Close())
	noError(t, server.Wait())
	for { // the sidecar's side of the call ends a moment later
		if _, err = node.Request(t.Context(), other, "/greet/1", nil); !errors.Is(err, sidecar.ErrClosed) {
			break
		}
	}
	wantError(t, err, sidecar.ErrNotSupported)
}

func TestManyRequestsAreAnsweredOutOfOrder(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	const count = 200
	var mu sync.Mutex
	var waiting []chan struct{}
	server, err := node.Serve(t.Context(), []string{"/x/1"}, func(_ context.Context, request *sidecar.Request) ([]byte, error) {
		mine := make(chan struct{})
		mu.Lock()
		waiting = append(waiting, mine)
		if len(waiting) == count {
			close(mine) // the last one comes first
		}
		position := len(waiting) - 1
		mu.Unlock()
		<-mine
		if position > 0 {
			mu.Lock()
			close(waiting[position-1])
			mu.Unlock()
		}
		return request.Data, nil
	})
	noError(t, err)
	defer server.Close()
	var all sync.WaitGroup
	for number := range count {
		all.Add(1)
		go func() {
			defer all.Done()
			if answer, err := node.Request(t.Context(), other, "/x/1", fmt.Append(nil, number)); err != nil || string(answer) != fmt.Sprint(number) {
				t.Error(string(answer), err)
			}
		}()
	}
	all.Wait()
}

func TestConcurrencyIsBounded(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	var mu sync.Mutex
	running, most := 0, 0
	step := make(chan struct{})
	server, err := node.Serve(t.Context(), []string{"/x/1"}, func(context.Context, *sidecar.Request) ([]byte, error) {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		<-step
		mu.Lock()
		running--
		mu.Unlock()
		return nil, nil
	}, sidecar.WithConcurrency(2))
	noError(t, err)
	defer server.Close()
	var all sync.WaitGroup
	for range 20 {
		all.Add(1)
		go func() {
			defer all.Done()
			if _, err := node.Request(t.Context(), other, "/x/1", nil); err != nil {
				t.Error(err)
			}
		}()
	}
	for range 20 {
		step <- struct{}{}
	}
	all.Wait()
	equal(t, "at once", most, 2)
}

func TestAWithdrawnRequestCancelsItsHandler(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	begun, ended := make(chan struct{}, 1), make(chan error, 1)
	server, err := node.Serve(t.Context(), []string{"/x/1"}, func(ctx context.Context, _ *sidecar.Request) ([]byte, error) {
		begun <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}, sidecar.WithConcurrency(1))
	noError(t, err)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() { asked <- second(node.Request(ctx, other, "/x/1", nil)) }()
	<-begun
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	equal(t, "the handler", <-ended, context.Canceled)
}

func TestServingSurvivesARestart(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	begun, ended := make(chan struct{}, 1), make(chan struct{})
	server, err := node.Serve(t.Context(), []string{"/x/1"}, func(ctx context.Context, request *sidecar.Request) ([]byte, error) {
		if string(request.Data) == "wait" {
			begun <- struct{}{}
			<-ctx.Done()
			close(ended)
		}
		return request.Data, nil
	})
	noError(t, err)
	defer server.Close()
	asked := make(chan error, 1)
	go func() { asked <- second(node.Request(t.Context(), other, "/x/1", []byte("wait"))) }()
	<-begun
	f.restart()
	<-ended // its asker has been told
	if err := <-asked; err == nil {
		t.Error("it was answered")
	}
	for { // until it is registered anew
		answer, err := node.Request(t.Context(), other, "/x/1", []byte("x"))
		if err == nil {
			equal(t, "answer", string(answer), "x")
			break
		}
	}
}

func TestRegistrationIsTriedAgainAfterALostConnection(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	calls := 0
	again := make(chan struct{})
	f.serve = func(stream pb.DirectService_ServeServer) error {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		calls++
		switch calls {
		case 1:
			if err := inForce(stream); err != nil {
				return err
			}
			return refused(codes.Unavailable, "CLOSED", "going", "", 0)
		case 2, 3: // the sidecar has not noticed yet that the first call is gone
			return refused(codes.AlreadyExists, "ALREADY_EXISTS", "served already", "", 0)
		}
		if err := inForce(stream); err != nil {
			return err
		}
		close(again)
		<-stream.Context().Done()
		return nil
	}
	server, err := node.Serve(t.Context(), []string{"/x/1"}, silent)
	noError(t, err)
	<-again
	noError(t, server.Close())
}

func TestServingEndsWithAnError(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	f.serve = func(stream pb.DirectService_ServeServer) error {
		if err := inForce(stream); err != nil {
			return err
		}
		return refused(codes.Internal, "INTERNAL_ERROR", "broken", "", 0)
	}
	server, err := node.Serve(t.Context(), []string{"/x/1"}, silent)
	noError(t, err)
	<-server.Done()
	wantError(t, server.Wait(), sidecar.ErrInternalError)
}

func TestServingIsCancelled(t *testing.T) {
	node := connected(t, started(t))
	ctx, cancel := context.WithCancel(t.Context())
	server, err := node.Serve(ctx, []string{"/x/1"}, silent)
	noError(t, err)
	cancel()
	if err := server.Wait(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestShuttingDownLetsHandlersAnswer(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	begun, release, ended := make(chan string, 3), make(chan struct{}), make(chan error, 1)
	serve := func() *sidecar.Server {
		server, err := node.Serve(t.Context(), []string{"/slow/1"}, func(ctx context.Context, request *sidecar.Request) ([]byte, error) {
			begun <- string(request.Data)
			select {
			case <-release:
			case <-ctx.Done():
			}
			return request.Data, ctx.Err()
		}, sidecar.WithConcurrency(1))
		noError(t, err)
		return server
	}
	server := serve()
	answers := make(chan string, 2)
	ask := func(text string) {
		answer, err := node.Request(t.Context(), other, "/slow/1", []byte(text))
		if err != nil {
			t.Error(err)
		}
		answers <- string(answer)
	}
	go ask("one")
	equal(t, "begun", <-begun, "one")
	go ask("two")
	for server.Waiting() == 0 { // behind the first
		runtime.Gosched()
	}
	go func() { ended <- server.Shutdown(t.Context()) }()
	for { // it may be asked for before that
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := node.Request(ctx, other, "/slow/1", []byte("late"))
		cancel()
		if errors.Is(err, sidecar.ErrRefused) {
			equal(t, "refusal", err.Error(), "the app is going away")
			break
		}
	}
	close(release)
	got := []string{<-answers, <-answers}
	slices.Sort(got)
	equal(t, "answers", got, []string{"one", "two"})
	noError(t, <-ended)
	noError(t, server.Wait())
	noError(t, server.Shutdown(t.Context())) // twice does nothing

	// Not for longer than the context lets it.
	for len(begun) > 0 {
		<-begun
	}
	release = make(chan struct{})
	server = serve()
	asked := make(chan error, 1)
	go func() {
		_, err := node.Request(t.Context(), other, "/slow/1", []byte("for ever"))
		asked <- err
	}()
	equal(t, "begun", <-begun, "for ever")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := server.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-asked; err == nil {
		t.Error("it was answered")
	}

	// The sidecar is gone: there is nobody to answer.
	server = serve()
	f.server.Stop()
	noError(t, server.Shutdown(t.Context()))
	noError(t, server.Wait())
}

func silent(context.Context, *sidecar.Request) ([]byte, error) { return nil, nil }

// However a handler ends, its asker is answered at once, and all others are served on, each in its turn.
func TestEveryExitOfAHandlerIsAnAnswer(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	server, err := node.Serve(t.Context(), []string{"/exits/1"}, func(_ context.Context, request *sidecar.Request) ([]byte, error) {
		other, cancel := context.WithCancel(context.Background())
		cancel()
		switch string(request.Data) {
		case "goexit":
			runtime.Goexit()
		case "panic":
			panic(errors.New("broken"))
		case "nil panic":
			panic(nil)
		case "typed nil":
			var none *sidecar.Error
			return nil, none
		case "cancelled":
			return nil, other.Err()
		case "late":
			return nil, context.DeadlineExceeded
		case "empty refusal":
			return nil, sidecar.Refuse("")
		case "odd refusal":
			return nil, sidecar.Refuse("\xff")
		case "too large":
			return make([]byte, 4<<20), nil
		case "nil":
			return nil, nil
		}
		return request.Data, nil
	}, sidecar.WithConcurrency(1)) // one that is lost would be missed
	noError(t, err)
	for _, exit := range []string{
		"goexit", "panic", "nil panic", "typed nil", "cancelled", "late", "empty refusal", "odd refusal", "too large", "goexit",
	} {
		_, err := node.Request(t.Context(), other, "/exits/1", []byte(exit))
		if failure := wantError(t, err, sidecar.ErrRefused); exit == "too large" {
			equal(t, "why", failure.Message,
				"the app there gave an answer that cannot be taken: response of 4194304 bytes, at most 4190112")
		}
		answer, err := node.Request(t.Context(), other, "/exits/1", []byte("next"))
		noError(t, err)
		equal(t, "the next", string(answer), "next")
	}
	answer, err := node.Request(t.Context(), other, "/exits/1", []byte("nil"))
	noError(t, err)
	equal(t, "nil", len(answer), 0)
	equal(t, "rejected", server.Rejected(), uint64(1))
	equal(t, "calls", f.count("DirectService/Serve"), 1)

	// Those that wait behind one that ends its goroutine, and a shutdown in the middle of it.
	var all sync.WaitGroup
	for range 20 {
		all.Add(2)
		go func() {
			defer all.Done()
			_, err := node.Request(t.Context(), other, "/exits/1", []byte("goexit"))
			if !errors.Is(err, sidecar.ErrRefused) {
				t.Error(err)
			}
		}()
		go func() {
			defer all.Done()
			if _, err := node.Request(t.Context(), other, "/exits/1", []byte("fine")); err != nil {
				t.Error(err)
			}
		}()
	}
	all.Wait()
	noError(t, server.Shutdown(t.Context()))
	noError(t, server.Close())
	noError(t, server.Close())
}

// The largest answers, given at once, are each written: together they would be more than a call takes.
func TestLargeAnswersAtOnce(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	var ready sync.WaitGroup
	ready.Add(8)
	_, err := node.Serve(t.Context(), []string{"/large/1"}, func(context.Context, *sidecar.Request) ([]byte, error) {
		ready.Done()
		ready.Wait()
		return make([]byte, 4<<20-4192), nil
	})
	noError(t, err)
	var all sync.WaitGroup
	for range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			answer, err := node.Request(t.Context(), other, "/large/1", nil)
			if err != nil || len(answer) != 4<<20-4192 {
				t.Error(len(answer), err)
			}
		}()
	}
	all.Wait()
	equal(t, "calls", f.count("DirectService/Serve"), 1)
}

// What the sidecar could not take costs one request, and this app is told.
func TestRejectedAnswers(t *testing.T) {
	f := newFake(t)
	again := make(chan struct{})
	f.serve = func(stream pb.DirectService_ServeServer) error {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		if err := inForce(stream); err != nil {
			return err
		}
		for number := uint64(1); ; number++ {
			err := stream.Send(&pb.ServeResponse{Requests: []*pb.IncomingRequest{{Id: number, Protocol: "/x/1"}}})
			if err != nil {
				return err
			}
			if _, err := stream.Recv(); err != nil {
				return err
			}
			if number == 3 {
				close(again)
				<-stream.Context().Done()
				return nil
			}
			err = stream.Send(&pb.ServeResponse{Rejected: []*pb.RejectedAnswer{{Id: number, Reason: "too large"}}})
			if err != nil {
				return err
			}
		}
	}
	f.start()
	var said bytes.Buffer
	node := connected(t, f, sidecar.WithLogger(slog.New(slog.NewTextHandler(&said, nil))))
	server, err := node.Serve(t.Context(), []string{"/x/1"}, silent)
	noError(t, err)
	<-again
	noError(t, server.Close())
	equal(t, "rejected", server.Rejected(), uint64(2))
	if !strings.Contains(said.String(), "too large") {
		t.Error(said.String())
	}
}
