package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sync"
	"time"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
)

// feed is a stream that brings items, read when the runner asks.
type feed struct {
	items  iter.Seq2[any, error]
	leave  func() error // closes it in order; nil: leaving the loop does
	count  func() uint64
	desk   *desk // of serve
	post   *post // of receive_durable
	cancel func()

	reading sync.Mutex
	next    func() (any, error, bool)
	stop    func()
	ended   any
}

// open begins a feed: it returns when it is in force.
type open func(context.Context, *agent, *sidecar.Client, *request) (*feed, error)

func (a *agent) open(node *sidecar.Client, asked *request, begin open) (any, error) {
	ctx, cancel := context.WithCancel(context.Background())
	opened, err := begin(ctx, a, node, asked)
	if err != nil {
		cancel()
		return nil, err
	}
	opened.cancel = cancel
	opened.next, opened.stop = iter.Pull2(opened.items)
	a.keep(asked.Client, asked.As, feedStream{opened})
	return fields{}, nil
}

// feedStream is a feed among the other streams.
type feedStream struct{ *feed }

func (f feedStream) cancel() { f.feed.cancel() }

func (f feedStream) close() error {
	if f.leave != nil {
		if err := f.leave(); err != nil {
			return err
		}
	}
	if f.reading.TryLock() {
		defer f.reading.Unlock()
		if f.ended == nil {
			f.stop() // leaves the loop
			f.ended = fields{}
		}
	} else if f.leave == nil { // the loop waits: only its context ends it
		f.feed.cancel()
	}
	return nil
}

// abandon leaves the loop, unless it is being read: then the library ends it.
func (f feedStream) abandon() {
	if f.reading.TryLock() {
		defer f.reading.Unlock()
		f.stop()
		f.feed.cancel()
	}
}

func (f *feed) read(asked *request) any {
	f.reading.Lock()
	defer f.reading.Unlock()
	taken := newReading(asked)
	for !taken.done && f.ended == nil {
		item, err, ok := f.next()
		switch {
		case !ok:
			f.ended = fields{}
		case err != nil:
			f.ended = described(err)
			f.stop()
		default:
			taken.add(item)
		}
	}
	answer := taken.answer()
	answer["end"] = f.ended
	answer["missed"] = nil
	if f.count != nil {
		answer["missed"] = f.count()
	}
	return answer
}

// reading is one `read`: it takes items until it has what was asked for.
type reading struct {
	asked    *request
	left     int
	done     bool
	items    []any
	count    int
	bytes    int
	payloads digest
	ids      digest
}

func newReading(asked *request) *reading {
	made := &reading{asked: asked, items: []any{}, payloads: newDigest(), ids: newDigest()}
	if asked.Count != nil {
		made.left = *asked.Count
	}
	return made
}

func (r *reading) add(item any) {
	switch item := item.(type) {
	case *sidecar.Batch[sidecar.Message]:
		if item.Lagged() != nil {
			r.add(*item.Lagged())
		}
		for message := range item.Messages() {
			r.add(message)
		}
	case *sidecar.Batch[sidecar.DirectMessage]:
		if item.Lagged() != nil {
			r.add(*item.Lagged())
		}
		for message := range item.Messages() {
			r.add(message)
		}
	case sidecar.Message:
		r.message(item.Data, item.MessageID, func() fields {
			return fields{
				"kind": "message", "topic": item.Topic, "data": shown(item.Data), "sender": item.Sender,
				"message_id": base64.StdEncoding.EncodeToString(item.MessageID), "cursor": base64.StdEncoding.EncodeToString(item.Cursor),
				"receive_time_ms": moment(item.ReceiveTime), "local": item.Local,
				"history": item.History,
			}
		})
	case sidecar.DirectMessage:
		r.message(item.Data, nil, func() fields {
			return fields{"kind": "message", "peer_id": item.PeerID, "protocol": item.Protocol, "data": shown(item.Data)}
		})
	case sidecar.Lagged:
		r.item(fields{"kind": "lagged", "missed": unless(!item.Known, item.Missed), "reason": item.Reason.String()})
	case fields:
		r.item(item)
	}
}

func (r *reading) message(data, id []byte, full func() fields) {
	if r.asked.Until != nil && bytes.Equal(data, *r.asked.Until) {
		r.done = true
	}
	if !r.asked.Digest {
		r.item(full())
		return
	}
	r.one()
	r.count++
	r.bytes += len(data)
	r.payloads.add(data)
	if id != nil {
		r.ids.add(id)
	}
}

func (r *reading) item(item fields) {
	r.one()
	if r.asked.Digest {
		item["at"] = r.count
	}
	r.items = append(r.items, item)
}

func (r *reading) one() {
	if r.asked.Count != nil {
		r.left--
		r.done = r.done || r.left <= 0
	}
}

func (r *reading) answer() fields {
	answer := fields{"items": r.items}
	if r.asked.Digest {
		answer["count"], answer["bytes"] = r.count, r.bytes
		answer["digest"], answer["ids_digest"] = r.payloads.hex(), r.ids.hex()
	}
	return answer
}

// as lets each value of a loop become an item.
func as[T any](values iter.Seq2[T, error], item func(T) any) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		for value, err := range values {
			if !yield(item(value), err) {
				return
			}
		}
	}
}

func probeNews(news sidecar.ProbeNews) any {
	if answer := news.Answer; answer != nil {
		return fields{
			"kind": "answer", "peer_id": answer.PeerID, "number": answer.Number, "delay_ms": answer.Delay.Seconds() * 1000,
			"round_trip_ms": answer.RoundTrip.Seconds() * 1000, "direct": answer.Direct,
		}
	}
	if whole := news.Summary; whole != nil {
		return fields{
			"kind": "summary", "published": whole.Published, "unpublished": whole.Unpublished, "share": whole.Share,
			"answers": whole.Answers, "peers": whole.Peers, "expected": whole.Expected, "answered": whole.Answered,
			"receivers": whole.Receivers, "ignored": whole.Ignored,
		}
	}
	return nil // beside an error
}

func itself[T any](value T) any { return value }

func event[M any](event sidecar.Event[M]) any {
	if event.Lagged != nil {
		return *event.Lagged
	}
	return event.Message
}

var feeds = map[string]open{
	"subscribe": func(ctx context.Context, _ *agent, node *sidecar.Client, asked *request) (*feed, error) {
		var options []sidecar.SubscribeOption
		if asked.Cursor != nil {
			options = append(options, sidecar.WithCursor(*asked.Cursor))
		}
		if asked.Signing != nil {
			options = append(options, sidecar.WithSigning(named[sidecar.Signing](*asked.Signing)))
		}
		if asked.Policy != nil {
			options = append(options, sidecar.WithPolicy(named[sidecar.OverflowPolicy](*asked.Policy)))
		}
		if asked.QueueMessages != nil {
			options = append(options, sidecar.WithQueueMessages(*asked.QueueMessages))
		}
		if asked.QueueBytes != nil {
			options = append(options, sidecar.WithQueueBytes(*asked.QueueBytes))
		}
		if asked.SkipLocal {
			options = append(options, sidecar.WithSkipLocal())
		}
		if asked.ExpectedRate != 0 {
			options = append(options, sidecar.WithExpectedRate(asked.ExpectedRate))
		}
		if asked.StartTime != nil {
			options = append(options, sidecar.WithStartTime(time.UnixMicro(int64(*asked.StartTime*1000))))
		}
		if asked.FromBeginning {
			options = append(options, sidecar.FromBeginning())
		}
		subscription, err := node.Subscribe(ctx, asked.Topics, options...)
		if err != nil {
			return nil, err
		}
		items := as(subscription.Events(), event[sidecar.Message])
		switch asked.Via {
		case "messages":
			items = as(subscription.Messages(), itself[sidecar.Message])
		case "batches":
			items = as(subscription.Batches(), itself[*sidecar.Batch[sidecar.Message]])
		}
		return &feed{items: items, leave: subscription.Close, count: subscription.Missed}, nil
	},
	"receive": func(ctx context.Context, _ *agent, node *sidecar.Client, asked *request) (*feed, error) {
		var options []sidecar.ReceiveOption
		if asked.QueueMessages != nil {
			options = append(options, sidecar.WithQueueMessages(*asked.QueueMessages))
		}
		receiver, err := node.Receive(ctx, asked.Protocols, options...)
		if err != nil {
			return nil, err
		}
		items := as(receiver.Events(), event[sidecar.DirectMessage])
		switch asked.Via {
		case "messages":
			items = as(receiver.Messages(), itself[sidecar.DirectMessage])
		case "batches":
			items = as(receiver.Batches(), itself[*sidecar.Batch[sidecar.DirectMessage]])
		}
		return &feed{items: items, leave: receiver.Close, count: receiver.Missed}, nil
	},
	"receive_durable": receiveDurable,
	"watch_outbox":    watchOutbox,
	"watch_readiness": func(ctx context.Context, _ *agent, node *sidecar.Client, _ *request) (*feed, error) {
		return &feed{items: as(node.WatchReadiness(ctx), func(found sidecar.Readiness) any {
			item := readiness(found)
			item["kind"] = "readiness"
			return item
		})}, nil
	},
	"watch_peers": func(ctx context.Context, _ *agent, node *sidecar.Client, _ *request) (*feed, error) {
		return &feed{items: as(node.WatchPeers(ctx), func(event sidecar.PeerEvent) any {
			item := fields{"kind": "peer", "type": event.Type.String(), "peer_id": nil, "reason": event.Reason}
			if event.Peer != nil {
				item["peer_id"] = event.Peer.PeerID
			}
			return item
		})}, nil
	},
	"watch_events": func(ctx context.Context, _ *agent, node *sidecar.Client, _ *request) (*feed, error) {
		return &feed{items: as(node.WatchEvents(ctx), func(item sidecar.Event[sidecar.NodeEvent]) any {
			if item.Lagged != nil {
				return *item.Lagged
			}
			record := item.Message
			if record.Fields == nil {
				record.Fields = map[string]string{}
			}
			return fields{
				"kind": "event", "time_ms": moment(record.Time), "severity": record.Severity, "part": record.Part,
				"message": record.Message, "fields": record.Fields,
			}
		})}, nil
	},
	"find_peers": func(ctx context.Context, _ *agent, node *sidecar.Client, asked *request) (*feed, error) {
		var options []sidecar.FindPeersOption
		if asked.Limit != nil {
			options = append(options, sidecar.WithLimit(*asked.Limit))
		}
		return &feed{items: as(node.FindPeers(ctx, asked.Name, options...), func(found sidecar.FoundPeer) any {
			return fields{"kind": "found", "peer_id": found.PeerID, "addresses": list(found.Addresses)}
		})}, nil
	},
	"probe": func(ctx context.Context, _ *agent, node *sidecar.Client, asked *request) (*feed, error) {
		var options []sidecar.ProbeOption
		if asked.Signing != nil {
			options = append(options, sidecar.WithSigning(named[sidecar.Signing](*asked.Signing)))
		}
		if asked.MessageCount != nil {
			options = append(options, sidecar.WithMessages(*asked.MessageCount))
		}
		if asked.Interval != nil {
			options = append(options, sidecar.WithInterval(milliseconds(*asked.Interval)))
		}
		if asked.Answers != nil {
			options = append(options, sidecar.WithAnswers(*asked.Answers))
		}
		if asked.Size != nil {
			options = append(options, sidecar.WithSize(uint32(*asked.Size)))
		}
		if asked.Exposed {
			options = append(options, sidecar.WithExposed())
		}
		return &feed{items: as(node.Probe(ctx, asked.Topic, options...), probeNews)}, nil
	},
	"advertise": func(ctx context.Context, _ *agent, node *sidecar.Client, asked *request) (*feed, error) {
		var options []sidecar.AdvertiseOption
		if asked.TTL != nil {
			options = append(options, sidecar.WithTTL(milliseconds(*asked.TTL)))
		}
		advertisement, err := node.Advertise(ctx, asked.Name, options...)
		if err != nil {
			return nil, err
		}
		return &feed{leave: advertisement.Close, items: as(advertisement.Announcements(), func(made sidecar.Announcement) any {
			return fields{
				"kind": "announcement", "holders": made.Holders, "asked": made.Asked, "next_announcement_ms": moment(made.NextAnnouncement),
			}
		})}, nil
	},
	"validate": func(ctx context.Context, _ *agent, node *sidecar.Client, asked *request) (*feed, error) {
		var options []sidecar.ValidateOption
		for fallback := sidecar.FallbackAccept; fallback <= sidecar.FallbackHold; fallback++ {
			if fallback.String() == asked.Fallback {
				options = append(options, sidecar.WithFallback(fallback))
			}
		}
		if asked.Timeout != nil {
			options = append(options, sidecar.WithVerdictTimeout(time.Duration(*asked.Timeout*float64(time.Millisecond))))
		}
		if asked.MaxWaiting != nil {
			options = append(options, sidecar.WithMaxWaiting(*asked.MaxWaiting))
		}
		told := make(chan fields, 1<<16)
		judge := func(_ context.Context, message *sidecar.Message) sidecar.Verdict {
			told <- fields{"kind": "judged", "topic": message.Topic, "data": shown(message.Data), "local": message.Local}
			switch {
			case bytes.HasPrefix(message.Data, []byte("r")):
				return sidecar.VerdictReject
			case bytes.HasPrefix(message.Data, []byte("i")):
				return sidecar.VerdictIgnore
			}
			return sidecar.VerdictAccept
		}
		validator, err := node.Validate(ctx, asked.Topics, judge, options...)
		if err != nil {
			return nil, err
		}
		return &feed{leave: validator.Close, items: func(yield func(any, error) bool) {
			for {
				select {
				case item := <-told:
					if !yield(item, nil) {
						return
					}
				case <-validator.Done():
					if err := validator.Wait(); err != nil {
						yield(nil, err)
					}
					return
				}
			}
		}}, nil
	},
	"serve": func(ctx context.Context, _ *agent, node *sidecar.Client, asked *request) (*feed, error) {
		var options []sidecar.ServeOption
		if asked.Concurrency != nil {
			options = append(options, sidecar.WithConcurrency(*asked.Concurrency))
		}
		made := &desk{held: map[int]chan *request{}, news: make(chan struct{}, 1)}
		handler := made.hold
		var gather struct{ Gather int }
		switch {
		case string(asked.Behaviour) == `"echo"`:
			handler = func(_ context.Context, request *sidecar.Request) ([]byte, error) { return request.Data, nil }
		case json.Unmarshal(asked.Behaviour, &gather) == nil && gather.Gather > 0:
			handler = made.gather(gather.Gather)
		}
		server, err := node.Serve(ctx, asked.Protocols, handler, options...)
		if err != nil {
			return nil, err
		}
		return &feed{leave: server.Close, desk: made, items: made.items(server)}, nil
	},
	"accept_streams": func(ctx context.Context, a *agent, node *sidecar.Client, asked *request) (*feed, error) {
		acceptor, err := node.AcceptStreams(ctx, asked.Protocols...)
		if err != nil {
			return nil, err
		}
		if string(asked.Behaviour) == `"echo"` {
			go echo(acceptor)
			return &feed{leave: acceptor.Close, items: func(func(any, error) bool) { <-ctx.Done() }}, nil
		}
		number := 0
		return &feed{leave: acceptor.Close, items: as(acceptor.Streams(), func(accepted *sidecar.Stream) any {
			if accepted == nil {
				return nil // an error, which comes beside
			}
			name := fmt.Sprintf("%s.%d", asked.As, number)
			number++
			if err := accepted.WaitOpen(ctx); err != nil {
				_ = accepted.Close()
				return fields{"kind": "failed", "error": described(err)}
			}
			a.keep(asked.Client, name, newByteStream(accepted))
			return fields{"kind": "stream", "stream": name, "peer_id": accepted.PeerID(), "protocol": accepted.Protocol()}
		})}, nil
	},
}

func echo(acceptor *sidecar.Acceptor) {
	for accepted, err := range acceptor.Streams() {
		if err != nil {
			return
		}
		go func() {
			if _, err := io.Copy(accepted, accepted); err != nil {
				fmt.Fprintln(os.Stderr, "echo:", err)
			}
			_ = accepted.Close()
		}()
	}
}

// desk answers requests as the runner says.
type desk struct {
	mu       sync.Mutex
	told     []fields // items that nobody has read
	news     chan struct{}
	held     map[int]chan *request
	number   int
	gathered []chan struct{}
}

func (d *desk) tell(item fields) {
	d.mu.Lock()
	d.told = append(d.told, item)
	d.mu.Unlock()
	select {
	case d.news <- struct{}{}:
	default:
	}
}

func (d *desk) items(server *sidecar.Server) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		for {
			d.mu.Lock()
			var item fields
			if len(d.told) > 0 {
				item, d.told = d.told[0], d.told[1:]
			}
			d.mu.Unlock()
			if item != nil {
				if !yield(item, nil) {
					return
				}
				continue
			}
			select {
			case <-d.news:
			case <-server.Done():
				if len(d.told) > 0 { // no handler runs any more
					continue
				}
				if err := server.Wait(); err != nil {
					yield(nil, err)
				}
				return
			}
		}
	}
}

func (d *desk) hold(ctx context.Context, request *sidecar.Request) ([]byte, error) {
	answered := make(chan *requestAlias, 1)
	d.mu.Lock()
	number := d.number
	d.number++
	d.held[number] = answered
	d.mu.Unlock()
	d.tell(fields{
		"kind": "request", "request": number, "peer_id": request.PeerID, "protocol": request.Protocol, "data": shown(request.Data),
		"time_left_ms": unless(request.TimeLeft == 0, inMilliseconds(request.TimeLeft)),
		"traceparent":  request.Traceparent,
	})
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.held, number)
	}()
	select {
	case answer := <-answered:
		switch {
		case answer.Refuse != nil:
			return nil, sidecar.Refuse(*answer.Refuse)
		case answer.Fail:
			return nil, errors.New("the handler fails, as it was told to")
		}
		return answer.Data.bytes(), nil
	case <-ctx.Done():
		d.tell(fields{"kind": "withdrawn", "request": number})
		return nil, ctx.Err()
	}
}

// requestAlias is the runner's request: hold has one of a peer by that name.
type requestAlias = request

// gather lets all wait for the last; each then sets free the one before it.
func (d *desk) gather(count int) sidecar.Handler {
	return func(ctx context.Context, request *sidecar.Request) ([]byte, error) {
		returned := make(chan struct{})
		d.mu.Lock()
		d.gathered = append(d.gathered, returned)
		place := len(d.gathered)
		if place == count {
			close(returned)
		}
		d.mu.Unlock()
		select {
		case <-returned:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if place > 1 {
			d.mu.Lock()
			close(d.gathered[place-2])
			d.mu.Unlock()
		}
		return request.Data, nil
	}
}

func (f *feed) answer(asked *request) error {
	if f.desk == nil {
		return fault(asked.Stream + " serves nobody")
	}
	f.desk.mu.Lock()
	defer f.desk.mu.Unlock()
	waiting := f.desk.held[asked.Request]
	if waiting == nil {
		return fault(fmt.Sprintf("no handler waits for an answer to request %d", asked.Request))
	}
	delete(f.desk.held, asked.Request)
	waiting <- asked
	return nil
}
