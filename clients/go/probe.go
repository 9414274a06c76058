package sidecar

import (
	"context"
	"errors"
	"io"
	"iter"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// Probe measures how long messages on a topic take to reach the others: it gives answers as they come, and the summary
// last. An error is the last thing that it gives. Apps get none of its messages. ErrNotFound where nobody is in the topic,
// ErrUnreachable where no peer of it is connected, ErrNotSupported where such peers do not know probes,
// ErrResourceExhausted, ErrInvalidArgument.
func (c *Client) Probe(ctx context.Context, topic string, options ...ProbeOption) iter.Seq2[ProbeNews, error] {
	var chosen callSettings
	for _, option := range options {
		option.probe(&chosen)
	}
	request := &sidecarv1.ProbeRequest{
		Topic:    topic,
		Messages: chosen.messages,
		Answers:  chosen.answers,
		Size:     chosen.size,
		Signing:  sidecarv1.Signing(chosen.signing),
		Exposed:  chosen.exposed,
	}
	if chosen.interval != nil {
		request.Interval = durationpb.New(*chosen.interval)
	}
	return func(yield func(ProbeNews, error) bool) {
		if err := c.probe(ctx, request, yield); err != nil {
			yield(ProbeNews{}, err)
		}
	}
}

func (c *Client) probe(
	ctx context.Context, request *sidecarv1.ProbeRequest, yield func(ProbeNews, error) bool,
) error {
	if c.link.ctx.Err() != nil {
		return c.link.closedError()
	}
	if err := checkRequest(request); err != nil {
		return err
	}
	const method, name = sidecarv1.PubSubService_Probe_FullMethodName, "probing"
	joined, release := c.link.join(ctx)
	defer release()
	call, err := c.link.begin(joined, ctx, serverStreamCall, method, name, bound(ctx))
	if err != nil {
		return err
	}
	if err := call.SendMsg(request); err == nil {
		_ = call.CloseSend()
	}
	for {
		var response sidecarv1.ProbeResponse
		if err := call.RecvMsg(&response); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return c.link.failure(ctx, err, name)
		}
		for _, answer := range response.GetAnswers() {
			if !yield(ProbeNews{Answer: probeAnswerOf(answer)}, nil) {
				return nil
			}
		}
		if whole := response.GetSummary(); whole != nil && !yield(ProbeNews{Summary: probeSummaryOf(whole)}, nil) {
			return nil
		}
	}
}

func probeAnswerOf(answer *sidecarv1.ProbeAnswer) *ProbeAnswer {
	return &ProbeAnswer{
		PeerID:    answer.GetPeerId(),
		Number:    answer.GetNumber(),
		Delay:     answer.GetDelay().AsDuration(),
		RoundTrip: answer.GetRoundTrip().AsDuration(),
		Direct:    answer.GetDirect(),
	}
}

func probeSummaryOf(whole *sidecarv1.ProbeSummary) *ProbeSummary {
	return &ProbeSummary{
		Published:   whole.GetPublished(),
		Unpublished: whole.GetUnpublished(),
		Share:       whole.GetShare(),
		Answers:     whole.GetAnswers(),
		Peers:       whole.GetPeers(),
		Expected:    whole.GetExpected(),
		Answered:    whole.GetAnswered(),
		Receivers:   whole.GetReceivers(),
		Ignored:     whole.GetIgnored(),
	}
}
