package sidecar

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

func (c *Client) findPeers(
	ctx context.Context, request *sidecarv1.FindPeersRequest, yield func(FoundPeer, error) bool,
) error {
	if c.link.ctx.Err() != nil {
		return c.link.closedError()
	}
	if err := checkRequest(request); err != nil {
		return err
	}
	const method, name = sidecarv1.DiscoveryService_FindPeers_FullMethodName, "finding peers"
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
		var response sidecarv1.FindPeersResponse
		if err := call.RecvMsg(&response); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return c.link.failure(ctx, err, name)
		}
		for _, found := range response.GetPeers() {
			if !yield(FoundPeer{PeerID: found.GetPeerId(), Addresses: found.GetAddresses()}, nil) {
				return nil
			}
		}
	}
}

// Advertisement is a name that is advertised for as long as it is held, also over restarts of the sidecar.
type Advertisement struct {
	feed feed
	done chan struct{}

	mu      sync.Mutex
	last    Announcement
	number  uint64        // of the last announcement
	news    chan struct{} // closed by the next one, or by the end
	over    bool          // it ended in order: by its time to live
	ended   bool
	failure error
}

// Advertise advertises a name through the DHT, 1 to 1024 bytes of printable text. It returns when it has been announced
// for the first time. It ends when it is closed, when ctx ends, or with its time to live ([WithTTL]).
func (c *Client) Advertise(ctx context.Context, name string, options ...AdvertiseOption) (*Advertisement, error) {
	var chosen callSettings
	for _, option := range options {
		option.advertise(&chosen)
	}
	if chosen.ttl < 0 {
		return nil, badField("ttl", "the time to live is %s, at least 0", chosen.ttl)
	}
	request := &sidecarv1.AdvertiseRequest{Name: name, Ttl: durationOf(chosen.ttl)}
	made := &Advertisement{done: make(chan struct{}), news: make(chan struct{})}
	made.feed = feed{
		link:    c.link,
		name:    "advertising " + name,
		method:  sidecarv1.DiscoveryService_Advertise_FullMethodName,
		desc:    serverStreamCall,
		first:   func() any { return request },
		greeted: made.greeted,
		inOrder: func() { made.over = true },
	}
	if err := made.feed.start(ctx); err != nil {
		return nil, err
	}
	if !c.link.spawn(made.keep) {
		made.feed.close()
		return nil, c.link.closedError()
	}
	return made, nil
}

// Last is the last announcement.
func (a *Advertisement) Last() Announcement {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// Announcements gives the last announcement, then every further one; of those that come too fast the newest. It ends when
// the advertisement is closed or its time to live is over; an error is the last thing that it gives.
func (a *Advertisement) Announcements() iter.Seq2[Announcement, error] {
	return func(yield func(Announcement, error) bool) {
		told := uint64(0)
		for {
			a.mu.Lock()
			last, number, news, ended, failure := a.last, a.number, a.news, a.ended, a.failure
			a.mu.Unlock()
			switch {
			case number != told:
				told = number
				if !yield(last, nil) {
					return
				}
			case ended:
				if failure != nil {
					yield(Announcement{}, failure)
				}
				return
			default:
				<-news
			}
		}
	}
}

// Done is closed when the advertisement has ended.
func (a *Advertisement) Done() <-chan struct{} { return a.done }

// Close ends the advertisement. Peers that hold it forget it at their own time.
func (a *Advertisement) Close() error {
	a.feed.close()
	<-a.done
	return nil
}

func (a *Advertisement) greeted(raw encoded) error {
	var response sidecarv1.AdvertiseResponse
	if err := proto.Unmarshal(raw, &response); err != nil {
		return malformed(err)
	}
	a.tell(&response)
	return nil
}

func (a *Advertisement) tell(response *sidecarv1.AdvertiseResponse) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = announcementOf(response)
	a.number++
	close(a.news)
	a.news = make(chan struct{})
}

// keep reads on, so that a lost stream is opened again.
func (a *Advertisement) keep() {
	defer close(a.done)
	defer a.feed.close()
	for {
		var response sidecarv1.AdvertiseResponse
		lost, err := a.feed.next(&response)
		if err == nil && !lost {
			a.tell(&response)
		}
		if err != nil {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.ended = true
			if !errors.Is(err, errFeedClosed) && !a.over {
				a.failure = err
			}
			close(a.news)
			return
		}
	}
}
