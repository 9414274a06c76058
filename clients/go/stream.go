package sidecar

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// The fields of the messages of byte streams, the same for streams that are opened and that are taken up.
const (
	streamData       = 3
	streamCloseWrite = 4

	linger = 5 * time.Second

	joined      = 64 << 10 // bytes of small writes that may wait together while gRPC takes what was written before
	frameHeader = 24       // bytes kept free in front of them, for tags, lengths and a stream's number
)

// Stream is a stream of bytes to and from an app at a peer, in order: a [net.Conn], with CloseWrite as *net.TCPConn has it.
//
// An error of reading or writing is ErrStreamReset when the peer reset the stream, ErrClosed when the connection was lost
// or the stream was ended here (then also net.ErrClosed), ErrSidecarUnavailable when the sidecar is gone, and
// os.ErrDeadlineExceeded behind a deadline. What had arrived before can still be read. Nobody buffers more than some 64
// KiB: Write waits as long as the peer's app does not read.
type Stream struct {
	link    *link
	call    grpc.ClientStream // its own; nil where it shares one
	carrier *carrier          // that of the shared one
	number  uint64            // of this stream there
	release context.CancelFunc

	mu       sync.Mutex
	changed  *sync.Cond // anything below
	opened   bool       // the sidecar has said that the stream is there
	peerID   string
	protocol string

	unread    [][]byte // normally one piece
	readEnd   bool     // the peer has ended its direction
	over      bool     // the call has ended
	lost      bool     // with it, the shared one
	room      int      // bytes that the shared call may be given
	window    int      // bytes that the shared call may have on the way to here
	taken     int      // bytes that were read, and the sidecar was not told so
	failure   error    // why, where it was not in order
	draining  bool     // the call is read to its end, though nobody takes what it brings
	discard   bool     // and what it brings is thrown away
	pending   []byte   // written and not handed to gRPC, behind room for a header
	queued    uint64   // bytes written in all
	sent      uint64   // of these, taken by gRPC
	endQueued bool     // the end of our direction is to be said behind pending
	sending   bool     // the writer is handing a request to gRPC
	writeEnd  bool     // our direction has been ended
	writeOver bool     // the sidecar takes no more
	writing   bool     // the writer has been started
	closed    bool
	cause     error // that of the context that has reset the stream

	readLimit, writeLimit time.Time
	readTimer, writeTimer *time.Timer
}

// Addr is a stream's end: a peer and what is spoken with it.
type Addr struct {
	PeerID   string
	Protocol string
}

// Network is "libp2p".
func (Addr) Network() string { return "libp2p" }

// String is the peer id and the protocol.
func (a Addr) String() string { return a.PeerID + a.Protocol }

// OpenStream opens a stream to a peer, for the first of the protocols, 1 to 16, that it speaks. ctx holds for the opening
// only. ErrNotSupported, ErrUnreachable and what is below it, ErrResourceExhausted.
func (c *Client) OpenStream(ctx context.Context, peerID string, protocols ...string) (*Stream, error) {
	if err := checkText("peer_id", peerID); err != nil {
		return nil, err
	}
	for _, text := range protocols {
		if err := checkText("protocols", text); err != nil {
			return nil, err
		}
	}
	var first encoded
	first = appendText(first, 1, peerID)
	for _, protocol := range protocols {
		first = protowire.AppendString(protowire.AppendTag(first, 2, protowire.BytesType), protocol)
	}
	shared := appendBytes(nil, frameOpen, first) // its fields have the same numbers there
	for {
		stream, old, err := c.link.newStream(ctx, sidecarv1.StreamService_OpenStream_FullMethodName, first, shared)
		if err != nil {
			return nil, err
		}
		err = stream.WaitOpen(ctx)
		if err == nil {
			return stream, nil
		}
		stream.Reset()
		stream.mu.Lock()
		again := old && stream.lost && lost(err) && c.link.reconnect // the call had ended, and with it the stream, if it was there
		stream.mu.Unlock()
		if !again || ctx.Err() != nil || c.link.ctx.Err() != nil {
			return nil, err
		}
	}
}

// newStream begins a stream, on the shared call where there is one, else by a call of its own. What it says first, there
// or here, is on its way when it returns; old says that the shared call was there before.
func (l *link) newStream(ctx context.Context, method string, first, shared encoded) (made *Stream, old bool, err error) {
	const name = "opening a stream"
	if l.ctx.Err() != nil {
		return nil, false, l.closedError()
	}
	if ctx.Err() != nil {
		return nil, false, ofContext(ctx, name)
	}
	made = &Stream{link: l}
	made.changed = sync.NewCond(&made.mu)
	joined, old, err := l.carrier.join(ctx, made)
	if err != nil {
		return nil, false, err
	}
	if joined {
		_ = made.carrier.send(outgoing(made.number, shared)) // where the call has ended, so has the stream
		return made, old, nil
	}
	return made, false, made.begin(ctx, method, name, first)
}

// begin gives a stream a call of its own.
func (s *Stream) begin(ctx context.Context, method, name string, first encoded) error {
	l := s.link
	life, release := l.join(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, release) // only until it is begun
	call, err := l.begin(life, ctx, bothStreamCall, method, name, bound(ctx))
	if !stop() && err == nil {
		err = ofContext(ctx, name)
	}
	if err != nil {
		release()
		return err
	}
	s.call, s.release = call, release
	if err := call.SendMsg(first); err != nil && !errors.Is(err, io.EOF) { // EOF: the pump learns why
		release()
		return l.failure(ctx, err, name)
	}
	if !l.spawn(s.pump) {
		release()
		return l.closedError()
	}
	// Where the client is closed, the pump must not wait for a reader any more.
	context.AfterFunc(life, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drain()
	})
	return nil
}

// WaitOpen waits until the sidecar says that the stream is there. OpenStream has done that; of a stream from an [Acceptor]
// it tells early what reading would tell: ErrNotFound when the stream had waited too long, or is gone.
func (s *Stream) WaitOpen(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.opened && !s.over && !s.closed && ctx.Err() == nil {
		s.changed.Wait()
	}
	switch {
	case s.opened:
		return nil
	case s.closed:
		return s.closedError()
	case s.over:
		return s.end()
	}
	return ofContext(ctx, "opening a stream")
}

// Protocol is what both sides speak.
func (s *Stream) Protocol() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.protocol
}

// PeerID is the peer, as the connection proves it.
func (s *Stream) PeerID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peerID
}

// LocalAddr names the protocol.
func (s *Stream) LocalAddr() net.Addr { return Addr{Protocol: s.Protocol()} }

// RemoteAddr names the peer and the protocol.
func (s *Stream) RemoteAddr() net.Addr { return Addr{PeerID: s.PeerID(), Protocol: s.Protocol()} }

// ---------------------------------------------------------------- reading

// pump reads the call: the next message when the last one has been taken, so that nothing piles up here.
func (s *Stream) pump() {
	defer s.release()
	for {
		var raw encoded
		err := s.call.RecvMsg(&raw)
		var data []byte
		var opening *sidecarv1.OpenedStream
		end := false
		if err == nil {
			data, opening, end, err = splitPiece(raw)
		}
		s.mu.Lock()
		if opening != nil {
			if header, err := s.call.Header(); err == nil { // it came before
				s.link.note(header)
			}
		}
		s.arrived(data, opening, end)
		if err != nil {
			var failure error
			if !errors.Is(err, io.EOF) {
				failure = s.link.failure(context.Background(), err, "a byte stream")
			}
			s.ended(failure)
			s.mu.Unlock()
			return
		}
		s.changed.Broadcast()
		for len(s.unread) > 0 && !s.draining && !s.discard {
			s.changed.Wait()
		}
		s.mu.Unlock()
	}
}

// arrived is told what the sidecar says; locked.
func (s *Stream) arrived(data []byte, opening *sidecarv1.OpenedStream, end bool) {
	if opening != nil {
		s.opened, s.peerID, s.protocol = true, opening.GetPeerId(), opening.GetProtocol()
	}
	if len(data) > 0 && !s.discard {
		s.unread = append(s.unread, data)
	}
	s.readEnd = s.readEnd || end
}

// ended is told that nothing more comes, and why where it is not in order; locked.
func (s *Stream) ended(failure error) {
	if !s.over {
		s.over, s.failure = true, failure
		s.stopTimers()
		s.changed.Broadcast()
	}
}

// took is told of bytes that wait here no more; locked.
func (s *Stream) took(size int) {
	if s.carrier == nil {
		return
	}
	if s.taken += size; s.taken >= s.window/2 && !s.over && !s.readEnd {
		s.carrier.put(s.number, appendNumber(nil, frameWindow, s.carrier.more(s)))
	}
}

func splitPiece(raw encoded) (data []byte, opened *sidecarv1.OpenedStream, end bool, err error) {
	err = fields(raw, func(field protowire.Number, bytes []byte, number uint64) error {
		switch field {
		case 1:
			opened = &sidecarv1.OpenedStream{}
			if err := proto.Unmarshal(bytes, opened); err != nil {
				return malformed(err)
			}
		case 2:
			data = bytes
		case 3:
			end = number != 0
		}
		return nil
	})
	return data, opened, end, err
}

// Read reads what has arrived, waiting for some; io.EOF when the peer has ended its direction.
func (s *Stream) Read(target []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, s.closedError()
		case expired(s.readLimit):
			return 0, os.ErrDeadlineExceeded
		case len(target) == 0:
			return 0, nil
		case len(s.unread) > 0:
			taken := copy(target, s.unread[0])
			s.took(taken)
			if taken == len(s.unread[0]) {
				s.unread[0] = nil
				s.unread = s.unread[1:]
				if len(s.unread) == 0 {
					s.unread = nil
					s.changed.Broadcast() // the pump reads on
				}
			} else {
				s.unread[0] = s.unread[0][taken:]
			}
			return taken, nil
		case s.readEnd:
			return 0, io.EOF
		case s.over:
			return 0, s.end()
		}
		s.changed.Wait()
	}
}

// end is the error of a call that has ended before both directions had.
func (s *Stream) end() error {
	if s.failure != nil {
		return s.failure
	}
	return newError(ErrClosed, "the sidecar ended the stream")
}

func (s *Stream) closedError() error {
	if s.cause != nil {
		return s.cause
	}
	failure := newError(ErrClosed, "the stream was closed here")
	if s.link.ctx.Err() != nil {
		failure.Message = "this client has been closed"
	}
	failure.cause = net.ErrClosed
	return failure
}

// ---------------------------------------------------------------- writing

// Write sends bytes; it returns when there is room for more. The bytes may be changed afterwards. Small writes do not wait
// for each other: what is written while gRPC takes the last request goes together in the next one. So an error may be
// told by a later Write, by CloseWrite or by Read.
func (s *Stream) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	written, handed := 0, 0 // handed: bytes of a large piece, which waits until gRPC has taken it
	var taken uint64        // what must have been sent for that
	for {
		if handed > 0 && s.sent >= taken && !s.writeOver {
			written, handed = written+handed, 0
		}
		if written > 0 && written == len(data) {
			return written, nil
		}
		open, err := s.mayWrite(handed > 0)
		if err != nil {
			return written, err
		}
		if open && handed == 0 {
			if len(data) == 0 {
				return 0, nil
			}
			most := s.link.piece()
			if s.carrier != nil {
				most = min(most, streamPiece)
			}
			piece := data[written:min(len(data), written+most)]
			if waiting := s.queued - s.sent; waiting == 0 || int(waiting)+len(piece) <= min(joined, most) {
				if !s.startWriter() {
					return written, s.closedError()
				}
				taken = s.enqueue(piece)
				if len(piece) <= joined {
					written += len(piece)
				} else {
					handed = len(piece)
				}
				continue
			}
		}
		s.changed.Wait()
	}
}

// mayWrite says whether our direction is open; where it is not and there is no error, one is on its way. Its end is no
// error for who only waits for what was written before.
func (s *Stream) mayWrite(waits bool) (bool, error) {
	switch {
	case s.closed:
		return false, s.closedError()
	case s.writeEnd && !waits:
		return false, newError(ErrClosed, "our direction of the stream has been ended")
	case s.over:
		return false, s.end()
	case s.writeOver: // the call has ended; what it ended with comes behind what is unread
		s.drain()
		return false, nil
	case expired(s.writeLimit):
		return false, os.ErrDeadlineExceeded
	}
	return true, nil
}

// enqueue puts a piece behind what waits for the writer. It gives what must have been sent for gRPC to have it.
func (s *Stream) enqueue(piece []byte) uint64 {
	if s.pending == nil {
		s.pending = make([]byte, frameHeader, frameHeader+len(piece))
	}
	s.pending = append(s.pending, piece...)
	s.queued += uint64(len(piece))
	s.changed.Broadcast()
	return s.queued
}

// CloseWrite ends our direction: the peer reads what was written, then the end. Reading goes on. Twice does nothing.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writeEnd && !s.closed {
		return nil
	}
	for {
		open, err := s.mayWrite(false)
		if err != nil {
			return err
		}
		if open {
			break
		}
		s.changed.Wait()
	}
	if !s.startWriter() {
		return s.closedError()
	}
	s.writeEnd, s.endQueued = true, true
	s.changed.Broadcast()
	for {
		switch {
		case s.closed:
			return s.closedError()
		case !s.endQueued && !s.sending && !s.writeOver:
			return nil
		case s.over && s.failure == nil && s.readEnd: // both directions have ended, before gRPC told us so of ours
			return nil
		case s.over:
			return s.end()
		case s.writeOver:
			s.drain()
		case expired(s.writeLimit):
			return os.ErrDeadlineExceeded
		}
		s.changed.Wait()
	}
}

func (s *Stream) startWriter() bool {
	s.writing = s.writing || s.link.spawn(s.writer)
	return s.writing
}

// drain lets the pump read on though nobody takes what it brings; the stream is locked.
func (s *Stream) drain() {
	if !s.draining {
		s.draining = true
		s.changed.Broadcast()
	}
}

// writer is the goroutine that writes, from the first Write on: a deadline must be able to leave it waiting.
func (s *Stream) writer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for !s.waiting() && !s.over {
			s.changed.Wait()
		}
		for s.carrier != nil && len(s.pending)-frameHeader > s.room && !s.over {
			s.changed.Wait()
		}
		if s.over {
			return
		}
		frame, through := s.takeFrame(), s.queued
		s.sending = true
		s.mu.Unlock()
		err := s.say(frame)
		s.mu.Lock()
		s.sending, s.sent = false, through
		if err != nil {
			s.writeOver = true
		}
		s.changed.Broadcast()
	}
}

// waiting says whether there is something for the writer.
func (s *Stream) waiting() bool { return s.pending != nil || s.endQueued }

// takeFrame is the request with all that waits. The header is written in front of the bytes, which are not copied again.
func (s *Stream) takeFrame() encoded {
	if s.carrier != nil {
		return s.takeShared()
	}
	var frame encoded
	if s.pending != nil {
		header := protowire.AppendTag(make([]byte, 0, frameHeader), streamData, protowire.BytesType)
		header = protowire.AppendVarint(header, uint64(len(s.pending)-frameHeader))
		frame = s.pending[frameHeader-len(header):]
		copy(frame, header)
		s.pending = nil
	}
	if s.endQueued {
		frame = appendNumber(frame, streamCloseWrite, 1)
		s.endQueued = false
	}
	return frame
}

// takeShared is takeFrame for the shared call, as a field of its request.
func (s *Stream) takeShared() encoded {
	var end []byte
	if s.endQueued {
		end = appendNumber(nil, frameCloseWrite, 1)
		s.endQueued = false
	}
	if s.pending == nil {
		return outgoing(s.number, end)
	}
	size := len(s.pending) - frameHeader
	inner := appendNumber(make([]byte, 0, frameHeader), frameStream, s.number)
	inner = protowire.AppendVarint(protowire.AppendTag(inner, frameData, protowire.BytesType), uint64(size))
	header := protowire.AppendTag(make([]byte, 0, frameHeader), 1, protowire.BytesType)
	header = protowire.AppendVarint(header, uint64(len(inner)+size+len(end)))
	header = append(header, inner...)
	frame := encoded(s.pending[frameHeader-len(header):])
	copy(frame, header)
	s.pending = nil
	s.room -= size
	return append(frame, end...)
}

// say hands what has been taken to gRPC. An error says that the call has ended.
func (s *Stream) say(frame encoded) error {
	if s.carrier != nil {
		return s.carrier.send(frame)
	}
	return s.call.SendMsg(frame)
}

// ---------------------------------------------------------------- ends

// Close ends our direction, if CloseWrite has not, and gives the peer up to 5 s in the background to end its own, so that
// nothing written is lost; what it still sends is thrown away. Then, or where the stream has failed, it is reset.
func (s *Stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	for _, piece := range s.unread {
		s.took(len(piece))
	}
	s.closed, s.discard, s.unread = true, true, nil
	s.stopTimers()
	s.changed.Broadcast()
	if s.over || s.writeOver || !s.link.leave(s.leave) {
		s.release()
	}
	return nil
}

// leave brings the last bytes away.
func (s *Stream) leave() {
	defer s.release()
	late := false
	timer := time.AfterFunc(linger, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.changed.Broadcast()
	})
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for (s.waiting() || s.sending) && !s.over && !late {
		s.changed.Wait()
	}
	if s.over || late {
		return
	}
	if !s.writeEnd && !s.writeOver {
		s.writeEnd, s.endQueued = true, true
		frame := s.takeFrame()
		s.mu.Unlock()
		_ = s.say(frame)
		s.mu.Lock()
	}
	for !s.over && !late { // the sidecar ends the call once both directions have ended
		s.changed.Wait()
	}
}

// Reset ends the stream at once, in both directions. What is on its way may be lost.
func (s *Stream) Reset() {
	s.mu.Lock()
	s.closed, s.discard, s.unread = true, true, nil
	s.stopTimers()
	s.changed.Broadcast()
	s.mu.Unlock()
	s.release()
}

// ResetWith resets the stream when ctx ends; what reads or writes then fails with ctx's error, and the peer sees a reset.
// The context that a stream was opened or accepted with does not do that. Calling what it returns lets go of ctx again, as
// with [context.AfterFunc].
func (s *Stream) ResetWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		s.mu.Lock()
		if !s.closed {
			s.cause = ofContext(ctx, "a byte stream")
		}
		s.mu.Unlock()
		s.Reset()
	})
}

// ---------------------------------------------------------------- deadlines

func expired(limit time.Time) bool { return !limit.IsZero() && !time.Now().Before(limit) }

// SetDeadline sets both deadlines.
func (s *Stream) SetDeadline(limit time.Time) error {
	if err := s.SetReadDeadline(limit); err != nil {
		return err
	}
	return s.SetWriteDeadline(limit)
}

// SetReadDeadline ends Read with os.ErrDeadlineExceeded from then on, also one that waits; the zero time: never.
func (s *Stream) SetReadDeadline(limit time.Time) error {
	return s.limit(&s.readLimit, &s.readTimer, limit)
}

// SetWriteDeadline ends Write with os.ErrDeadlineExceeded from then on, also one that waits; the zero time: never. The
// piece of up to 256 KiB that was being written may arrive all the same.
func (s *Stream) SetWriteDeadline(limit time.Time) error {
	return s.limit(&s.writeLimit, &s.writeTimer, limit)
}

func (s *Stream) limit(kept *time.Time, timer **time.Timer, limit time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.closedError()
	}
	if *timer != nil {
		(*timer).Stop()
		*timer = nil
	}
	*kept = limit
	if left := time.Until(limit); !limit.IsZero() && left > 0 && !s.over {
		*timer = time.AfterFunc(left, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.changed.Broadcast()
		})
	}
	s.changed.Broadcast()
	return nil
}

func (s *Stream) stopTimers() {
	for _, timer := range []*time.Timer{s.readTimer, s.writeTimer} {
		if timer != nil {
			timer.Stop()
		}
	}
}
