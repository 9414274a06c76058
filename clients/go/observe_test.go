package sidecar_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

func (f *fake) WatchEvents(_ *pb.WatchEventsRequest, stream pb.NodeService_WatchEventsServer) error {
	if err := inForce(stream); err != nil {
		return err
	}
	for _, response := range []*pb.WatchEventsResponse{
		{Events: []*pb.NodeEvent{{
			Time: timestamppb.New(time.Unix(9, 5)), Severity: "info", Part: "net", Message: "listening", Fields: map[string]string{"peer": me},
		}}},
		{Lagged: &pb.Lagged{Missed: proto.Uint64(7), Reason: pb.LagReason_LAG_REASON_SLOW_READER}},
	} {
		if err := stream.Send(response); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

func (f *fake) SetLogLevel(_ context.Context, request *pb.SetLogLevelRequest) (*pb.SetLogLevelResponse, error) {
	if request.GetLevel() == "loud" {
		return nil, refused(codes.InvalidArgument, "INVALID_ARGUMENT", "there is no level loud", "level", 0)
	}
	return &pb.SetLogLevelResponse{Level: "info", Parts: map[string]string{request.GetPart(): request.GetLevel()}}, nil
}

func TestWatchingEvents(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	record := sidecar.Event[sidecar.NodeEvent]{Message: sidecar.NodeEvent{
		Time: time.Unix(9, 5).UTC(), Severity: "info", Part: "net", Message: "listening", Fields: map[string]string{"peer": me},
	}}
	missed := sidecar.Event[sidecar.NodeEvent]{Lagged: &sidecar.Lagged{Missed: 7, Known: true, Reason: sidecar.LagSlowReader}}
	lost := sidecar.Event[sidecar.NodeEvent]{Lagged: &sidecar.Lagged{Reason: sidecar.LagReconnected}}
	var got []sidecar.Event[sidecar.NodeEvent]
	for event, err := range node.WatchEvents(t.Context()) {
		noError(t, err)
		if got = append(got, event); len(got) == 2 {
			f.restart()
		} else if len(got) == 5 {
			break
		}
	}
	equal(t, "events", got, []sidecar.Event[sidecar.NodeEvent]{record, missed, lost, record, missed})
}

func TestLogLevels(t *testing.T) {
	node := connected(t, started(t))
	levels, err := node.SetLogLevel(t.Context(), "net", "debug")
	noError(t, err)
	equal(t, "levels", levels, sidecar.LogLevels{Level: "info", Parts: map[string]string{"net": "debug"}})
	_, err = node.SetLogLevel(t.Context(), "net", "loud")
	wantError(t, err, sidecar.ErrInvalidArgument)
}

func TestTracesReachTheHandler(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	begun, release := make(chan struct{}, 2), make(chan struct{})
	server, err := node.Serve(t.Context(), []string{"/trace/1"}, func(_ context.Context, request *sidecar.Request) ([]byte, error) {
		begun <- struct{}{}
		<-release
		return []byte(request.Traceparent), nil
	})
	noError(t, err)
	answers := make(chan string, 2)
	for _, trace := range []string{"00-one-1-01", "00-two-2-01"} { // alone, and by the shared call
		go func() {
			answer, err := node.Request(t.Context(), other, "/trace/1", nil, sidecar.WithTraceparent(trace))
			if err != nil {
				t.Error(err)
			}
			answers <- string(answer)
		}()
		<-begun
	}
	close(release)
	equal(t, "traces", slices.Sorted(maps.Keys(map[string]bool{<-answers: true, <-answers: true})), []string{"00-one-1-01", "00-two-2-01"})
	equal(t, "calls", []int{f.count("DirectService/Request"), f.count("DirectService/RequestMany")}, []int{1, 1})
	_, err = node.Request(t.Context(), other, "/trace/1", nil, sidecar.WithTraceparent("\xff"))
	wantError(t, err, sidecar.ErrInvalidArgument)
	noError(t, server.Close())
}
