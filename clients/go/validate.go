package sidecar

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

const (
	rangeMessages = 65536 // the API's bound on the messages of one range
	verdictRanges = 4096  // in one request
	validatorEnd  = 2 * time.Second
)

// Judge gives the verdict on a message. Its context ends with the validator. What panics, ends its goroutine ([runtime.Goexit]), or
// returns no verdict, is logged, and the message ignored.
type Judge func(ctx context.Context, message *Message) Verdict

// Validator judges messages of some topics. It outlives the sidecar's restarts; while it is away, the fallback holds.
type Validator struct {
	feed     feed
	judge    Judge
	most     int
	done     chan struct{}
	failure  error // what ended it, once done
	handlers sync.WaitGroup
	places   chan struct{} // taken while a judge runs beside the reader

	mu        sync.Mutex
	verdicts  *verdicts // of the present call
	finishing bool
}

// Validate judges the messages of some topics, 1 to 64, before anybody gets them. It returns when messages wait for its verdicts.
// The judge is called for one message after the other, unless [WithConcurrency] says that more run at once; then verdicts
// come in any order. ctx holds for its whole life: where it ends, the topics' fallback stays in force, as it does when the app
// dies; [Validator.Close] ends in order.
func (c *Client) Validate(ctx context.Context, topics []string, judge Judge, options ...ValidateOption) (*Validator, error) {
	chosen := callSettings{concurrency: 1}
	for _, option := range options {
		option.validate(&chosen)
	}
	if judge == nil {
		return nil, badField("judge", "there is no judge")
	}
	if chosen.concurrency < 1 {
		return nil, badField("concurrency", "at least one judge must run, not %d", chosen.concurrency)
	}
	if chosen.verdictTimeout < 0 {
		return nil, badField("timeout", "a message cannot wait %s for its verdict", chosen.verdictTimeout)
	}
	made := &Validator{
		judge:  judge,
		most:   chosen.concurrency,
		done:   make(chan struct{}),
		places: make(chan struct{}, chosen.concurrency),
	}
	first := &sidecarv1.ValidateRequest{
		Topics:     topics,
		Fallback:   sidecarv1.ValidationFallback(chosen.fallback),
		MaxWaiting: chosen.maxWaiting,
	}
	if chosen.verdictTimeout > 0 {
		first.Timeout = durationpb.New(chosen.verdictTimeout)
	}
	made.feed = feed{
		link:   c.link,
		name:   "judging " + strings.Join(topics, ", "),
		method: sidecarv1.PubSubService_Validate_FullMethodName,
		desc:   bothStreamCall,
		first:  func() any { return first },
		opened: made.opened,
		over:   made.over,
	}
	if err := made.feed.start(ctx); err != nil {
		return nil, err
	}
	if !c.link.spawn(made.serve) {
		made.feed.close()
		made.over()
		return nil, c.link.closedError()
	}
	return made, nil
}

// Done is closed when the validator has ended.
func (v *Validator) Done() <-chan struct{} { return v.done }

// Wait waits until the validator has ended: nil when it was closed, else why.
func (v *Validator) Wait() error {
	<-v.done
	return v.failure
}

// Close ends the validator in order: the topics are as they were before it. Not to be called by a judge.
func (v *Validator) Close() error {
	v.feed.finish()
	v.mu.Lock()
	v.finishing = true
	present := v.verdicts
	v.mu.Unlock()
	if present != nil {
		present.finish()
		select {
		case <-v.done:
			return nil
		case <-time.After(validatorEnd):
		}
	}
	v.feed.close()
	<-v.done
	return nil
}

func (v *Validator) opened(made *call) {
	writing := &verdicts{call: made, some: make(chan struct{}, 1)}
	v.mu.Lock()
	v.verdicts = writing
	if v.finishing {
		v.feed.cancel()
	}
	v.mu.Unlock()
	v.handlers.Add(1)
	go func() {
		defer v.handlers.Done()
		writing.write()
	}()
}

// over is told that a call has ended: its verdicts mean nothing any more.
func (v *Validator) over() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.verdicts != nil {
		v.verdicts.close()
		v.verdicts = nil
	}
}

func (v *Validator) serve() {
	defer close(v.done)
	defer v.handlers.Wait()
	defer v.over()
	defer v.feed.close()
	for {
		var response sidecarv1.ValidateResponse
		lost, err := v.feed.next(&response)
		if err != nil {
			if !errors.Is(err, errFeedClosed) {
				v.failure = err
			}
			return
		}
		if lost {
			continue
		}
		v.mu.Lock()
		writing := v.verdicts
		v.mu.Unlock()
		if writing == nil {
			continue
		}
		if v.most == 1 {
			v.judgeInOrder(writing, &response)
			continue
		}
		for index, message := range response.GetMessages() {
			v.places <- struct{}{}
			v.handlers.Add(1)
			go func() {
				defer v.handlers.Done()
				defer func() { <-v.places }()
				v.give(writing, response.GetFirst()+uint64(index), message)
			}()
		}
	}
}

// judgeInOrder judges one message after the other, all of them in one goroutine, unless a judge ends that: another one goes on.
func (v *Validator) judgeInOrder(writing *verdicts, response *sidecarv1.ValidateResponse) {
	messages := response.GetMessages()
	for next := 0; next < len(messages); {
		var judging sync.WaitGroup
		judging.Add(1)
		go func() {
			defer judging.Done()
			for next < len(messages) {
				next++
				v.give(writing, response.GetFirst()+uint64(next-1), messages[next-1])
			}
		}()
		judging.Wait()
	}
}

// give has a message judged and its verdict written, whatever the judge does.
func (v *Validator) give(writing *verdicts, number uint64, message *sidecarv1.TopicMessage) {
	verdict := VerdictIgnore // where the judge ends its goroutine
	defer func() { writing.add(number, verdict) }()
	verdict = v.verdict(judged(message))
}

// verdict asks the judge. What it panics with is logged: one message must not end all others.
func (v *Validator) verdict(message *Message) (verdict Verdict) {
	logger, returned := v.feed.link.logger, false
	defer func() {
		if caught := recover(); caught != nil {
			logger.Error("judge failed", "topic", message.Topic, "panic", fmt.Sprint(caught), "stack", string(debug.Stack()))
			verdict = VerdictIgnore
		} else if !returned {
			logger.Error("judge failed", "topic", message.Topic, "reason", "it ended its goroutine")
		}
	}()
	verdict = v.judge(v.feed.ctx, message)
	returned = true
	if verdict < VerdictAccept || verdict > VerdictIgnore {
		logger.Error("judge failed", "topic", message.Topic, "verdict", int32(verdict))
		return VerdictIgnore
	}
	return verdict
}

func judged(message *sidecarv1.TopicMessage) *Message {
	return &Message{
		Topic:       message.GetTopic(),
		Data:        message.GetData(),
		Sender:      message.GetSender(),
		MessageID:   message.GetMessageId(),
		ReceiveTime: message.GetReceiveTime().AsTime(),
		Local:       message.GetLocal(),
	}
}

// verdicts are what one call writes: as many at once as have come while the last ones were written.
type verdicts struct {
	call *call
	some chan struct{}

	mu      sync.Mutex
	waiting []*sidecarv1.VerdictRange
	closed  bool
	last    bool // none is added any more
}

func (w *verdicts) add(number uint64, verdict Verdict) {
	w.mu.Lock()
	if end := len(w.waiting) - 1; end >= 0 {
		before := w.waiting[end]
		if before.First+before.Count == number && before.Verdict == sidecarv1.Verdict(verdict) && before.Count < rangeMessages {
			before.Count++
			w.mu.Unlock()
			return // whoever takes it has been told
		}
	}
	if !w.closed {
		w.waiting = append(w.waiting, &sidecarv1.VerdictRange{First: number, Count: 1, Verdict: sidecarv1.Verdict(verdict)})
	}
	w.mu.Unlock()
	signal(w.some)
}

// finish ends this side of the call once all verdicts are written.
func (w *verdicts) finish() {
	w.mu.Lock()
	w.last = true
	w.mu.Unlock()
	signal(w.some)
}

func (w *verdicts) close() {
	w.mu.Lock()
	w.closed, w.waiting = true, nil
	w.mu.Unlock()
	signal(w.some)
}

func (w *verdicts) take() (some []*sidecarv1.VerdictRange, last, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	count := min(len(w.waiting), verdictRanges)
	some, w.waiting = w.waiting[:count:count], w.waiting[count:]
	if len(w.waiting) > 0 {
		signal(w.some)
	}
	return some, w.last && len(w.waiting) == 0, !w.closed
}

func (w *verdicts) write() {
	for range w.some {
		some, last, more := w.take()
		if !more {
			return
		}
		if len(some) > 0 && w.call.SendMsg(&sidecarv1.ValidateRequest{Verdicts: some}) != nil {
			return // the call has ended, which the reader learns
		}
		if last {
			_ = w.call.CloseSend()
			return
		}
	}
}
