package main

import (
	"context"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"iter"
	"strings"
	"time"
	"unicode"

	"google.golang.org/grpc/codes"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
)

const inline = 1024 // bytes of a payload that are shown; of a longer one only its digest

type fields = map[string]any

// request is an operation with all the fields that any has; absent ones are nil or empty.
type request struct {
	ID     int    `json:"id"`
	Op     string `json:"op"`
	Client string `json:"client"`
	As     string `json:"as"`
	Stream string `json:"stream"`

	Target    *string  `json:"target"`
	Wait      *float64 `json:"wait_ms"`
	Reconnect *bool    `json:"reconnect"`
	Token     *string  `json:"token"`
	TokenFile *string  `json:"token_file"`
	TLSCA     string   `json:"tls_ca"`
	TLSCert   string   `json:"tls_cert"`
	TLSKey    string   `json:"tls_key"`
	Operation int      `json:"operation"`
	Timeout   *float64 `json:"timeout_ms"`

	PeerID        string    `json:"peer_id"`
	Addresses     []string  `json:"addresses"`
	ConnectedOnly bool      `json:"connected_only"`
	Protocol      string    `json:"protocol"`
	Protocols     []string  `json:"protocols"`
	Topic         string    `json:"topic"`
	Topics        []string  `json:"topics"`
	Name          string    `json:"name"`
	Data          *payload  `json:"data"`
	Run           *run      `json:"run"`
	Messages      []payload `json:"messages"`
	ThenWait      bool      `json:"then_wait"`
	RequestID     *string   `json:"request_id"`
	Durable       bool      `json:"durable"`
	Signing       *string   `json:"signing"`
	MinimumPeers  *uint32   `json:"minimum_peers"`
	Bundling      *string   `json:"bundling"`
	MessageIDs    bool      `json:"return_message_ids"`
	Key           *payload  `json:"key"`
	Value         *payload  `json:"value"`
	Quorum        *uint32   `json:"quorum"`
	Limit         *uint32   `json:"limit"`
	Fallback      string    `json:"fallback"`
	MaxWaiting    *uint32   `json:"max_waiting"`
	TTL           *float64  `json:"ttl_ms"`
	Network       string    `json:"network"`
	Reason        string    `json:"reason"`
	Score         float64   `json:"score"`
	Rules         string    `json:"rules"`
	Duration      *float64  `json:"duration_ms"`
	Part          string    `json:"part"`
	Level         string    `json:"level"`
	Traceparent   string    `json:"traceparent"`
	MessageCount  *uint32   `json:"message_count"`
	Interval      *float64  `json:"interval_ms"`
	Answers       *uint32   `json:"answers"`
	Exposed       bool      `json:"exposed"`

	Cursor        *payload        `json:"cursor"`
	Policy        *string         `json:"policy"`
	QueueMessages *uint32         `json:"queue_messages"`
	QueueBytes    *uint64         `json:"queue_bytes"`
	SkipLocal     bool            `json:"skip_local"`
	ExpectedRate  float64         `json:"expected_rate"`
	StartTime     *float64        `json:"start_time_ms"`
	FromBeginning bool            `json:"from_beginning"`
	Via           string          `json:"via"`
	Concurrency   *int            `json:"concurrency"`
	Behaviour     json.RawMessage `json:"behaviour"`

	Count   *int     `json:"count"`
	Until   *payload `json:"until"`
	Digest  bool     `json:"digest"`
	Size    *int     `json:"size"`
	Request int      `json:"request"`
	Refuse  *string  `json:"refuse"`
	Fail    bool     `json:"fail"`

	FromCursor *uint64  `json:"from_cursor"`
	MaxOpen    *uint32  `json:"max_open"`
	Delivery   int      `json:"delivery"`
	Reject     *string  `json:"reject"`
	Delay      *float64 `json:"delay_ms"`
}

// payload is base64, or made from a seed.
type payload []byte

func (p *payload) UnmarshalJSON(text []byte) error {
	var encoded string
	if json.Unmarshal(text, &encoded) == nil {
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		*p = decoded
		return err
	}
	var made run
	if err := json.Unmarshal(text, &made); err != nil {
		return err
	}
	*p = made.payload(0)
	return nil
}

func (p *payload) bytes() []byte {
	if p == nil {
		return nil
	}
	return *p
}

// run is many payloads of one seed.
type run struct {
	Seed  string `json:"seed"`
	Size  int    `json:"size"`
	Count int    `json:"count"`
}

func (r *run) payload(number int) []byte {
	if r.Size == 0 {
		return []byte{}
	}
	return sha3.SumSHAKE128(fmt.Appendf(nil, "%s/%d", r.Seed, number), r.Size)
}

// payloads are those of `messages` or `run`, made while they are used.
func (r *request) payloads() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if r.Run != nil {
			for number := range r.Run.Count {
				if !yield(r.Run.payload(number)) {
					return
				}
			}
			return
		}
		for _, message := range r.Messages {
			if !yield(message) {
				return
			}
		}
	}
}

// shown is a payload as the runner wants it.
func shown(data []byte) any {
	if len(data) <= inline {
		return base64.StdEncoding.EncodeToString(data)
	}
	digest := sha256.Sum256(data)
	return fields{"size": len(data), "sha256": hex.EncodeToString(digest[:])}
}

// digest is that of several byte strings.
type digest struct{ hash.Hash }

func newDigest() digest { return digest{sha256.New()} }

func (d digest) add(data []byte) {
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(data)))
	d.Write(length[:])
	d.Write(data)
}

func (d digest) hex() string { return hex.EncodeToString(d.Sum(nil)) }

func milliseconds(value float64) time.Duration {
	return time.Duration(value * float64(time.Millisecond))
}

func inMilliseconds(value time.Duration) float64 { return float64(value) / float64(time.Millisecond) }

// unless is nil for a value that is not set.
func unless(unset bool, value any) any {
	if unset {
		return nil
	}
	return value
}

func moment(at time.Time) any { return unless(at.IsZero(), float64(at.UnixNano())/1e6) }

func list[T any](values []T) []T {
	if values == nil {
		return []T{}
	}
	return values
}

// kinds are all the errors of the tree, each before those that it is one of.
var kinds = []error{
	sidecar.ErrInvalidPeerId, sidecar.ErrInvalidMultiaddr, sidecar.ErrSelfDial, sidecar.ErrTooLarge, sidecar.ErrNoAddresses,
	sidecar.ErrDialTimeout, sidecar.ErrDialBackoff, sidecar.ErrNoQuorum, sidecar.ErrStreamReset, sidecar.ErrFrameTooLarge,
	sidecar.ErrHandshakeTimeout, sidecar.ErrWrongPrivateNetwork, sidecar.ErrHandshakeError, sidecar.ErrKeepAliveTimeout,
	sidecar.ErrWriteStalled, sidecar.ErrQueueFull, sidecar.ErrTooManyConnections, sidecar.ErrWorkExceeded, sidecar.ErrSlowReader, sidecar.ErrQuotaExceeded,
	sidecar.ErrStorageError,
	sidecar.ErrSidecarUnavailable, sidecar.ErrInvalidArgument, sidecar.ErrNotFound, sidecar.ErrAlreadyExists,
	sidecar.ErrNotSupported, sidecar.ErrUnreachable, sidecar.ErrClosed, sidecar.ErrProtocolError, sidecar.ErrWrongPeer,
	sidecar.ErrWrongNetwork, sidecar.ErrPeerBanned, sidecar.ErrOutdated, sidecar.ErrRefused, sidecar.ErrTopicOptionsDiffer, sidecar.ErrResourceExhausted,
	sidecar.ErrUnauthenticated, sidecar.ErrPermissionDenied,
	sidecar.ErrDeadlineExceeded, sidecar.ErrFailedPrecondition, sidecar.ErrInternalError, sidecar.ErrSidecar,
}

// described is an error as the runner wants it.
func described(err error) fields {
	var typed *sidecar.Error
	var mine fault
	switch {
	case errors.As(err, &mine):
		return fields{"type": "AgentError", "kinds": []string{"AgentError"}, "message": err.Error()}
	case errors.As(err, &typed):
	case errors.Is(err, context.Canceled):
		return fields{"type": "Cancelled", "kinds": []string{"Cancelled"}, "message": err.Error()}
	default:
		name := fmt.Sprintf("%T", err)
		return fields{"type": name, "kinds": []string{name}, "message": err.Error()}
	}
	names := []string{}
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			names = append(names, kind.Error())
		}
	}
	return fields{
		"type":           typed.Name(),
		"kinds":          names,
		"message":        err.Error(),
		"reason":         unless(typed.Reason == "", typed.Reason),
		"field":          unless(typed.Field == "", typed.Field),
		"retry_after_ms": unless(typed.RetryAfter == 0, inMilliseconds(typed.RetryAfter)),
		"code":           unless(typed.Code == codes.OK, codeName(typed.Code)),
	}
}

// codeName turns DeadlineExceeded into DEADLINE_EXCEEDED.
func codeName(code codes.Code) string {
	if code == codes.Canceled {
		return "CANCELLED"
	}
	var name strings.Builder
	for index, letter := range code.String() {
		if index > 0 && unicode.IsUpper(letter) {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToUpper(letter))
	}
	return name.String()
}

// named looks an enum's value up by the name that it has.
func named[E interface {
	~int32
	fmt.Stringer
}](name string) E {
	for value := range E(200) {
		if value.String() == name {
			return value
		}
	}
	panic("no value is called " + name)
}
