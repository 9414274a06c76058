package sidecar_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

func TestAProbeGivesAnswersAsTheyComeAndItsSummaryLast(t *testing.T) {
	f := started(t)
	var request *pb.ProbeRequest
	f.probe = func(given *pb.ProbeRequest, stream pb.PubSubService_ProbeServer) error {
		request = given
		if err := inForce(stream); err != nil {
			return err
		}
		answer := func(number uint32, delay time.Duration, direct bool) *pb.ProbeAnswer {
			return &pb.ProbeAnswer{
				PeerId: other, Number: number, Delay: durationpb.New(delay), RoundTrip: durationpb.New(time.Second / 16), Direct: direct,
			}
		}
		first := answer(0, time.Second/8, true)
		if err := stream.Send(&pb.ProbeResponse{Answers: []*pb.ProbeAnswer{first}}); err != nil {
			return err
		}
		return stream.Send(&pb.ProbeResponse{
			Answers: []*pb.ProbeAnswer{answer(1, 3*time.Second, false)},
			Summary: &pb.ProbeSummary{
				Published: 20, Unpublished: 1, Share: 0.5, Answers: 2, Peers: 1, Expected: 3, Answered: 2, Receivers: 4.5, Ignored: 6,
			},
		})
	}
	node := connected(t, f)
	var told []sidecar.ProbeNews
	for news, err := range node.Probe(t.Context(), "news", sidecar.WithMessages(7), sidecar.WithInterval(time.Second/4),
		sidecar.WithAnswers(9), sidecar.WithSize(1000), sidecar.WithExposed(), sidecar.WithSigning(sidecar.SigningStrictNoSign)) {
		noError(t, err)
		told = append(told, news)
	}
	equal(t, "told", told, []sidecar.ProbeNews{
		{Answer: &sidecar.ProbeAnswer{PeerID: other, Number: 0, Delay: time.Second / 8, RoundTrip: time.Second / 16, Direct: true}},
		{Answer: &sidecar.ProbeAnswer{PeerID: other, Number: 1, Delay: 3 * time.Second, RoundTrip: time.Second / 16}},
		{Summary: &sidecar.ProbeSummary{
			Published: 20, Unpublished: 1, Share: 0.5, Answers: 2, Peers: 1, Expected: 3, Answered: 2, Receivers: 4.5, Ignored: 6,
		}},
	})
	equal(t, "request", []any{
		request.GetTopic(), request.GetMessages(), request.GetInterval().AsDuration(), request.GetAnswers(), request.GetSize(),
		request.GetExposed(), request.GetSigning(),
	}, []any{"news", uint32(7), time.Second / 4, uint32(9), uint32(1000), true, pb.Signing_SIGNING_STRICT_NO_SIGN})
	for range node.Probe(t.Context(), "news") {
		break
	}
	equal(t, "no interval", request.GetInterval() == nil, true)
}

func TestAProbeEndsWithItsErrorOrItsContext(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	for _, err := range node.Probe(t.Context(), "\xff") {
		wantError(t, err, sidecar.ErrInvalidArgument)
	}
	for kind, code := range map[string]codes.Code{"NOT_SUPPORTED": codes.Unimplemented, "UNREACHABLE": codes.Unavailable} {
		f.probe = func(*pb.ProbeRequest, pb.PubSubService_ProbeServer) error {
			return refused(code, kind, "it is so", "", 0)
		}
		want := map[string]error{"NOT_SUPPORTED": sidecar.ErrNotSupported, "UNREACHABLE": sidecar.ErrUnreachable}[kind]
		for _, err := range node.Probe(t.Context(), "news") {
			wantError(t, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.probe = func(_ *pb.ProbeRequest, stream pb.PubSubService_ProbeServer) error {
		cancel()
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	for _, err := range node.Probe(ctx, "news") {
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
}
