package sidecar_test

import (
	"context"
	"io"
	"runtime"
	"testing"
	"time"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

func acceptAll(context.Context, *sidecar.Message) sidecar.Verdict { return sidecar.VerdictAccept }

// judging is a sidecar that has these messages judged, and hands on what it was first told and the verdicts, by number.
func judging(f *fake, datas ...string) (first chan *pb.ValidateRequest, verdicts chan map[uint64]pb.Verdict, ended chan error) {
	first, verdicts, ended = make(chan *pb.ValidateRequest, 4), make(chan map[uint64]pb.Verdict, 4), make(chan error, 4)
	f.validate = func(stream pb.PubSubService_ValidateServer) error {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		first <- request
		if err := f.bulkInForce(stream); err != nil {
			return err
		}
		response := &pb.ValidateResponse{First: 7}
		for _, data := range datas {
			response.Messages = append(response.Messages, &pb.TopicMessage{Topic: "news", Data: []byte(data), Sender: other})
		}
		if err := stream.Send(response); err != nil {
			return err
		}
		given := make(map[uint64]pb.Verdict)
		for {
			request, err := stream.Recv()
			if err != nil {
				ended <- err
				if err == io.EOF {
					return nil
				}
				return err
			}
			for _, part := range request.GetVerdicts() {
				for number := part.GetFirst(); number < part.GetFirst()+part.GetCount(); number++ {
					given[number] = part.GetVerdict()
				}
			}
			if len(given) == len(datas) {
				verdicts <- given
			}
		}
	}
	return first, verdicts, ended
}

func TestJudging(t *testing.T) {
	for _, concurrency := range []int{1, 4} {
		f := started(t)
		node := connected(t, f)
		first, verdicts, ended := judging(f, "accept", "exit", "exit", "reject", "ignore", "panic", "odd", "exit")
		validator, err := node.Validate(t.Context(), []string{"news"}, func(_ context.Context, message *sidecar.Message) sidecar.Verdict {
			if message.Topic != "news" || message.Sender != other {
				t.Error(message)
			}
			switch string(message.Data) {
			case "reject":
				return sidecar.VerdictReject
			case "ignore":
				return sidecar.VerdictIgnore
			case "exit":
				runtime.Goexit()
			case "panic":
				panic("secret")
			case "odd":
				return 0
			}
			return sidecar.VerdictAccept
		}, sidecar.WithConcurrency(concurrency), sidecar.WithFallback(sidecar.FallbackHold),
			sidecar.WithVerdictTimeout(1500*time.Millisecond), sidecar.WithMaxWaiting(9))
		noError(t, err)
		asked := <-first
		equal(t, "settings", []any{asked.GetTopics(), asked.GetFallback(), asked.GetTimeout().AsDuration(), asked.GetMaxWaiting()},
			[]any{[]string{"news"}, pb.ValidationFallback_VALIDATION_FALLBACK_HOLD, 1500 * time.Millisecond, uint32(9)})
		equal(t, "verdicts", <-verdicts, map[uint64]pb.Verdict{
			7: pb.Verdict_VERDICT_ACCEPT, 8: pb.Verdict_VERDICT_IGNORE, 9: pb.Verdict_VERDICT_IGNORE, 10: pb.Verdict_VERDICT_REJECT,
			11: pb.Verdict_VERDICT_IGNORE, 12: pb.Verdict_VERDICT_IGNORE, 13: pb.Verdict_VERDICT_IGNORE, 14: pb.Verdict_VERDICT_IGNORE,
		})
		noError(t, validator.Close())
		equal(t, "end", <-ended, io.EOF) // in order
		noError(t, validator.Wait())
	}
}

func TestJudgingGoesOnAfterARestart(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	first, verdicts, _ := judging(f, "one")
	validator, err := node.Validate(t.Context(), []string{"news"}, acceptAll)
	noError(t, err)
	<-first
	<-verdicts
	f.restart()
	<-first
	equal(t, "verdicts", <-verdicts, map[uint64]pb.Verdict{7: pb.Verdict_VERDICT_ACCEPT})
	noError(t, validator.Close())
}

func TestWhatCannotJudge(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	for _, bad := range []error{
		second(node.Validate(t.Context(), []string{"news"}, nil)),
		second(node.Validate(t.Context(), []string{"news"}, acceptAll, sidecar.WithConcurrency(0))),
		second(node.Validate(t.Context(), []string{"news"}, acceptAll, sidecar.WithVerdictTimeout(-time.Second))),
		second(node.Validate(t.Context(), []string{"\xff"}, acceptAll)),
	} {
		wantError(t, bad, sidecar.ErrInvalidArgument)
	}
}
