package sidecar_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// each makes a request and sends a message of each kind, one after the other.
func each(t *testing.T, node *sidecar.Client, topic string) {
	t.Helper()
	answer, err := node.Request(t.Context(), other, "/x/1", []byte(topic))
	noError(t, err)
	equal(t, "answer", string(answer), topic)
	published, err := node.Publish(t.Context(), topic, []byte(topic))
	noError(t, err)
	equal(t, "id", string(published.MessageID), "id-"+topic)
	sent, err := node.Send(t.Context(), other, "/chat/1", []byte(topic))
	noError(t, err)
	equal(t, "outcome", sent.Outcome, sidecar.SendDelivered)
}

func echoing(f *fake) {
	f.request = func(_ context.Context, request *pb.RequestRequest) (*pb.RequestResponse, error) {
		return &pb.RequestResponse{Data: request.GetData()}, nil
	}
}

func TestTheFirstIsASingleCallAndAllThatFollowRideOne(t *testing.T) {
	f := started(t)
	echoing(f)
	node := connected(t, f)
	for range 5 {
		each(t, node, "news")
	}
	for _, method := range []string{"PubSubService/Publish", "DirectService/Send", "DirectService/Request"} {
		equal(t, method, f.count(method), 1)
		equal(t, method+"Many", f.count(method+"Many"), 1)
	}
}

func TestCallsStayOpenForTheKeysUsedLast(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	publish := func(topic int) {
		t.Helper()
		_, err := node.Publish(t.Context(), fmt.Sprint("topic ", topic), nil)
		noError(t, err)
	}
	for range 2 {
		for topic := range 8 {
			publish(topic)
		}
	}
	equal(t, "calls", f.count("PubSubService/PublishMany"), 8)
	publish(8)
	publish(8)
	publish(1)
	equal(t, "calls", f.count("PubSubService/PublishMany"), 9)
	equal(t, "alone", f.count("PubSubService/Publish"), 9)
	publish(0) // its call has ended
	equal(t, "alone", f.count("PubSubService/Publish"), 10)
}

func TestManyTopicsInTurnOpenNoCalls(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	for range 3 {
		for topic := range 20 {
			_, err := node.Publish(t.Context(), fmt.Sprint("topic ", topic), nil)
			noError(t, err)
		}
	}
	equal(t, "calls", f.count("PubSubService/PublishMany"), 0)
}

func TestAKeptCallIsOpenedAnewWhenTheSidecarComesBack(t *testing.T) {
	f := started(t)
	echoing(f)
	node := connected(t, f)
	each(t, node, "news")
	each(t, node, "news")
	for range 2 {
		f.restart()
		until(func() bool { // the client has noticed
			_, err := node.Info(t.Context())
			return err == nil
		})
		each(t, node, "news")
		each(t, node, "news")
		each(t, node, "news")
	}
	equal(t, "calls", f.count("DirectService/RequestMany"), 3)
	equal(t, "calls", f.count("PubSubService/PublishMany"), 3)
}

func TestASidecarWithoutTheCallsIsAskedOneByOne(t *testing.T) {
	f := started(t)
	echoing(f)
	older := status.Error(codes.Unimplemented, "Method not found!")
	f.publishMany = func(pb.PubSubService_PublishManyServer) error { return older }
	f.sendMany = func(pb.DirectService_SendManyServer) error { return older }
	f.requestMany = func(pb.DirectService_RequestManyServer) error { return older }
	node := connected(t, f)
	for range 4 {
		each(t, node, "news")
	}
	for _, method := range []string{"PubSubService/Publish", "DirectService/Send", "DirectService/Request"} {
		equal(t, method, f.count(method), 4)
		equal(t, method+"Many", f.count(method+"Many"), 1) // to see whether it is there
	}
}

func TestWithATokenAMessageThatIsAloneStaysASingleCall(t *testing.T) {
	f := started(t)
	echoing(f)
	node := connected(t, f, sidecar.WithToken("one"))
	for range 3 {
		each(t, node, "news")
	}
	equal(t, "calls", f.count("DirectService/RequestMany")+f.count("PubSubService/PublishMany"), 0)
}

func TestADeadlineThatPassesLeavesTheNextMessageAlone(t *testing.T) {
	f := started(t)
	silent := make(chan struct{})
	f.request = func(ctx context.Context, request *pb.RequestRequest) (*pb.RequestResponse, error) {
		if string(request.GetData()) == "silence" {
			<-ctx.Done()
			close(silent)
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		return &pb.RequestResponse{Data: request.GetData()}, nil
	}
	node := connected(t, f)
	each(t, node, "news")
	each(t, node, "news")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := node.Request(ctx, other, "/x/1", []byte("silence"))
	wantError(t, err, sidecar.ErrDeadlineExceeded)
	<-silent
	each(t, node, "news")
	equal(t, "calls", f.count("DirectService/RequestMany"), 1)
}

func TestASidecarThatHasTheCallsAgainIsAskedTogether(t *testing.T) {
	f := started(t)
	echoing(f)
	older := status.Error(codes.Unimplemented, "Method not found!")
	f.publishMany = func(pb.PubSubService_PublishManyServer) error { return older }
	f.sendMany = func(pb.DirectService_SendManyServer) error { return older }
	f.requestMany = func(pb.DirectService_RequestManyServer) error { return older }
	node := connected(t, f)
	for range 3 {
		each(t, node, "news")
	}
	f.server.Stop()
	f.publishMany, f.sendMany, f.requestMany = nil, nil, nil
	f.start()
	until(func() bool { // the client has noticed
		_, err := node.Info(t.Context())
		return err == nil
	})
	for range 3 {
		each(t, node, "news")
	}
	for _, method := range []string{"PubSubService/Publish", "DirectService/Send", "DirectService/Request"} {
		equal(t, method+"Many", f.count(method+"Many"), 2)
	}
}

func TestWhatIsGivenToACallThatHasEndedGoesAgain(t *testing.T) {
	f := newFake(t)
	ends := &ends{}
	f.options = []grpc.ServerOption{grpc.StatsHandler(ends)}
	f.start()
	echoing(f)
	leaving := status.Error(codes.Unavailable, "the sidecar is leaving")
	f.publishMany = func(stream pb.PubSubService_PublishManyServer) error {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		receipts := []*pb.PublishReceiptRange{{Count: 1, Outcome: pb.PublishOutcome_PUBLISH_OUTCOME_SENT, MessageIds: [][]byte{{1}}}}
		if err := stream.Send(&pb.PublishManyResponse{Receipts: receipts}); err != nil {
			return err
		}
		return leaving
	}
	f.requestMany = func(stream pb.DirectService_RequestManyServer) error {
		asked, err := stream.Recv()
		if err != nil {
			return err
		}
		result := &pb.RequestResult{Id: asked.GetRequests()[0].GetId(), Result: &pb.RequestResult_Data{Data: []byte("a")}}
		if err := stream.Send(&pb.RequestManyResponse{Results: []*pb.RequestResult{result}}); err != nil {
			return err
		}
		return leaving
	}
	node := connected(t, f)
	for range 200 {
		for range 2 {
			_, err := node.Publish(t.Context(), "news", []byte("a"))
			noError(t, err)
			_, err = node.Request(t.Context(), other, "/x/1", []byte("a"))
			noError(t, err)
			until(func() bool { return ends.under.Load() == 0 })
			_, err = node.Info(t.Context()) // behind this, the ends of the calls have come
			noError(t, err)
		}
	}
}

// ends counts the calls whose ends have not been written.
type ends struct{ under atomic.Int64 }

func (e *ends) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (e *ends) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (e *ends) HandleConn(context.Context, stats.ConnStats) {}

func (e *ends) HandleRPC(_ context.Context, told stats.RPCStats) {
	switch told.(type) {
	case *stats.Begin:
		e.under.Add(1)
	case *stats.End:
		e.under.Add(-1)
	}
}
