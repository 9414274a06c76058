package sidecar_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// besides makes a request that waits until the function that it returns is called: those that follow share a call.
func besides(t *testing.T, f *fake, node *sidecar.Client) (release func()) {
	t.Helper()
	entered, open, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	answer := f.request
	f.request = func(ctx context.Context, request *pb.RequestRequest) (*pb.RequestResponse, error) {
		if request.GetProtocol() == "/first/1" {
			close(entered)
			<-open
			return &pb.RequestResponse{}, nil
		}
		return answer(ctx, request)
	}
	go func() {
		defer close(done)
		if _, err := node.Request(t.Context(), other, "/first/1", nil); err != nil {
			t.Error(err)
		}
	}()
	<-entered
	return func() {
		close(open)
		<-done
	}
}

func TestRequestsTravelTogether(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	f.request = func(_ context.Context, request *pb.RequestRequest) (*pb.RequestResponse, error) {
		if strings.HasSuffix(string(request.GetData()), "7") {
			return nil, refused(codes.ResourceExhausted, "QUEUE_FULL", "full", "", time.Second/10)
		}
		return &pb.RequestResponse{Data: []byte(request.GetPeerId() + request.GetProtocol() + string(request.GetData()))}, nil
	}
	release := besides(t, f, node)
	var all sync.WaitGroup
	for number := range 3000 {
		all.Add(1)
		go func() {
			defer all.Done()
			protocol := fmt.Sprint("/x/", number%3)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			answer, err := node.Request(ctx, other, protocol, fmt.Append(nil, number))
			if number%10 == 7 {
				if failure := wantError(t, err, sidecar.ErrQueueFull); failure.RetryAfter != time.Second/10 || failure.Code != codes.ResourceExhausted {
					t.Error(failure)
				}
			} else if err != nil || string(answer) != fmt.Sprint(other, protocol, number) {
				t.Error(string(answer), err)
			}
		}()
	}
	all.Wait()
	release()
	equal(t, "alone", f.count("DirectService/Request"), 1)
	if calls := f.count("DirectService/RequestMany"); calls > 50 {
		t.Errorf("%d calls for 3000 requests", calls)
	}
}

func TestSharedCallsComeAndGo(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	f.request = func(_ context.Context, request *pb.RequestRequest) (*pb.RequestResponse, error) {
		return &pb.RequestResponse{Data: request.GetData()}, nil
	}
	var all sync.WaitGroup
	for asker := range 3 {
		all.Add(1)
		go func() {
			defer all.Done()
			for number := range 500 {
				data := fmt.Sprint(asker, " ", number)
				if answer, err := node.Request(t.Context(), other, "/x/1", []byte(data)); err != nil || string(answer) != data {
					t.Error(data, string(answer), err)
				}
			}
		}()
	}
	all.Wait()
}

func TestASharedRequestIsCancelled(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	begun, ended := make(chan time.Duration, 1), make(chan struct{}, 1)
	f.request = func(ctx context.Context, request *pb.RequestRequest) (*pb.RequestResponse, error) {
		if string(request.GetData()) == "answered" {
			return &pb.RequestResponse{}, nil
		}
		deadline, _ := ctx.Deadline()
		begun <- time.Until(deadline)
		<-ctx.Done()
		ended <- struct{}{}
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	release := besides(t, f, node)
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() { asked <- second(node.Request(ctx, other, "/x/1", nil)) }()
	<-begun
	go func() { asked <- second(node.Request(t.Context(), other, "/x/1", []byte("answered"))) }()
	noError(t, <-asked) // it is not disturbed
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-ended // there, too

	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	go func() { asked <- second(node.Request(ctx, other, "/x/1", nil)) }()
	if left := <-begun; left <= 0 || left > 30*time.Millisecond {
		t.Error("its deadline did not travel:", left)
	}
	wantError(t, <-asked, sidecar.ErrDeadlineExceeded)
	<-ended
	release()
}

func TestALostConnectionFailsSharedRequests(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	f.request = func(context.Context, *pb.RequestRequest) (*pb.RequestResponse, error) {
		return &pb.RequestResponse{}, nil
	}
	calls := 0
	f.requestMany = func(stream pb.DirectService_RequestManyServer) error {
		calls++
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		if calls == 1 {
			return status.Error(codes.Unavailable, "going")
		}
		result := &pb.RequestResult{Id: request.GetRequests()[0].GetId(), Result: &pb.RequestResult_Data{Data: []byte("there")}}
		if err := stream.Send(&pb.RequestManyResponse{Results: []*pb.RequestResult{result}}); err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	release := besides(t, f, node)
	_, err := node.Request(t.Context(), other, "/x/1", nil)
	wantError(t, err, sidecar.ErrSidecarUnavailable)
	equal(t, "calls", calls, 1) // nothing is asked again
	answer, err := node.Request(t.Context(), other, "/x/1", nil)
	noError(t, err)
	equal(t, "answer", string(answer), "there")
	release()
}

func TestClosingEndsSharedRequests(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	begun := make(chan struct{}, 2)
	f.request = func(ctx context.Context, _ *pb.RequestRequest) (*pb.RequestResponse, error) {
		begun <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	asked := make(chan error, 2)
	for range 2 {
		go func() { asked <- second(node.Request(t.Context(), other, "/x/1", nil)) }()
		<-begun
	}
	noError(t, node.Close())
	for range 2 {
		wantError(t, <-asked, sidecar.ErrClosed)
	}
	_, err := node.Request(t.Context(), other, "/x/1", nil)
	wantError(t, err, sidecar.ErrClosed)
}
