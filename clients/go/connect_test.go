package sidecar_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

func TestTargets(t *testing.T) {
	f := started(t)
	t.Chdir(filepath.Dir(f.path))
	t.Setenv("HOME", filepath.Dir(f.path))
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	overTCP := newFake(t)
	overTCP.serveOn(tcp)
	for given, shown := range map[string]string{
		f.path:                     "unix:" + f.path,
		"unix:" + f.path:           "unix:" + f.path,
		"unix://" + f.path:         "unix:" + f.path,
		"./api.sock":               "unix:" + f.path, // whole: it may be another after a chdir
		"unix:api.sock":            "unix:" + f.path,
		"./././/api.sock":          "unix:" + f.path,
		"~/api.sock":               "unix:" + f.path,
		"unix:~/api.sock":          "unix:" + f.path,
		tcp.Addr().String():        tcp.Addr().String(),
		"localhost:" + portOf(tcp): "localhost:" + portOf(tcp),
	} {
		node, err := sidecar.Connect(t.Context(), sidecar.WithTarget(given))
		if err != nil {
			t.Errorf("%s: %v", given, err)
			continue
		}
		if node.Target() != shown {
			t.Errorf("%s is shown as %s, not %s", given, node.Target(), shown)
		}
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	}
}

func portOf(listener net.Listener) string {
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

func TestTargetsThatAreNone(t *testing.T) {
	for _, given := range []string{"unix:", "nowhere", "host:", ":80", "host:http", "host:0", "host:70000", "tls://host", "http://host:80"} {
		_, err := sidecar.Connect(t.Context(), sidecar.WithTarget(given), sidecar.WithWait(0))
		wantError(t, err, sidecar.ErrInvalidArgument)
		var typed *sidecar.Error
		if errors.As(err, &typed) && typed.Field != "target" {
			t.Errorf("%s: field %q", given, typed.Field)
		}
	}
}

func TestPathsThatNoSocketHas(t *testing.T) {
	directory := t.TempDir() + "/"
	longest := directory + strings.Repeat("x", 107-len(directory))
	f := newFake(t)
	f.path = longest
	f.start()
	connected(t, f)
	for _, given := range []string{longest + "y", "unix:" + longest + "y", "unix:/" + strings.Repeat("\u00e9", 53) + "z"} {
		_, err := sidecar.Connect(t.Context(), sidecar.WithTarget(given))
		path := strings.TrimPrefix(given, "unix:")
		said := "the path of a Unix socket has at most 107 bytes, this one has 108: " + path
		if failure := wantError(t, err, sidecar.ErrInvalidArgument); failure.Message != said || failure.Field != "target" {
			t.Error(err)
		}
	}
	t.Setenv("SIDECAR_API", "")
	t.Setenv("XDG_RUNTIME_DIR", directory+strings.Repeat("r", 100))
	_, err := sidecar.Connect(t.Context())
	wantError(t, err, sidecar.ErrInvalidArgument)

	// A directory may come later, with the sidecar.
	_, err = sidecar.Connect(t.Context(), sidecar.WithTarget(directory+"no/where/api.sock"), sidecar.WithWait(0))
	failure := wantError(t, err, sidecar.ErrSidecarUnavailable)
	if !strings.HasSuffix(failure.Message, "; the directory "+directory+"no/where does not exist") {
		t.Error(err)
	}
	if err := os.WriteFile(directory+"file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = sidecar.Connect(t.Context(), sidecar.WithTarget(directory+"file/api.sock"), sidecar.WithWait(0))
	failure = wantError(t, err, sidecar.ErrSidecarUnavailable)
	if !strings.HasSuffix(failure.Message, "; "+directory+"file is not a directory") {
		t.Error(err)
	}
}

// wantError checks that an error is of a kind, and of this one exactly.
func wantError(t *testing.T, err, kind error) *sidecar.Error {
	t.Helper()
	var typed *sidecar.Error
	if !errors.As(err, &typed) || !errors.Is(typed.Kind, kind) || !errors.Is(err, kind) {
		t.Fatalf("%v, not %v", err, kind)
	}
	return typed
}

func TestDefaultTarget(t *testing.T) {
	f := newFake(t)
	runtime := t.TempDir()
	directory := filepath.Join(runtime, "sidecar")
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	f.path = filepath.Join(directory, "api.sock")
	f.start()
	t.Setenv("SIDECAR_API", "")
	t.Setenv("XDG_RUNTIME_DIR", runtime)
	node, err := sidecar.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if node.Target() != "unix:"+f.path {
		t.Error(node.Target())
	}
	_ = node.Close()

	if err := os.Chmod(directory, 0o722); err != nil {
		t.Fatal(err)
	}
	_, err = sidecar.Connect(t.Context())
	if failure := wantError(t, err, sidecar.ErrSidecarUnavailable); !strings.Contains(failure.Message, "not trusted") {
		t.Error(err)
	}

	t.Setenv("XDG_RUNTIME_DIR", "relative") // counts as unset
	t.Setenv("TMPDIR", runtime)
	_, err = sidecar.Connect(t.Context(), sidecar.WithWait(0))
	if failure := wantError(t, err, sidecar.ErrSidecarUnavailable); !strings.Contains(failure.Message, runtime+"/sidecar-") {
		t.Error(err)
	}
}

func TestNoSidecarIsOneClearError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	t.Setenv("SIDECAR_API", path)
	for _, wait := range []time.Duration{0, 120 * time.Millisecond} {
		_, err := sidecar.Connect(t.Context(), sidecar.WithWait(wait))
		failure := wantError(t, err, sidecar.ErrSidecarUnavailable)
		for _, said := range []string{"unix:" + path, "from SIDECAR_API", "no such file", "times"} {
			if !strings.Contains(failure.Message, said) {
				t.Errorf("%q does not say %q", failure.Message, said)
			}
		}
	}
}

func TestWaitsForASidecarThatStarts(t *testing.T) {
	f := newFake(t)
	connecting := make(chan error, 1)
	go func() {
		node, err := sidecar.Connect(t.Context(), sidecar.WithTarget(f.path))
		if err == nil {
			err = node.Close()
		}
		connecting <- err
	}()
	f.start()
	if err := <-connecting; err != nil {
		t.Fatal(err)
	}
}

func TestConnectingIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := sidecar.Connect(ctx, sidecar.WithTarget(filepath.Join(t.TempDir(), "api.sock")))
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 60*time.Millisecond)
	defer cancel()
	_, err = sidecar.Connect(ctx, sidecar.WithTarget(filepath.Join(t.TempDir(), "api.sock")))
	wantError(t, err, sidecar.ErrSidecarUnavailable)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestASidecarThatRefuses(t *testing.T) {
	f := newFake(t)
	f.getNode = func(context.Context) (*pb.GetNodeResponse, error) {
		return nil, refused(codes.Internal, "INTERNAL_ERROR", "broken", "", 0)
	}
	f.start()
	_, err := sidecar.Connect(t.Context(), sidecar.WithTarget(f.path))
	wantError(t, err, sidecar.ErrInternalError)
}

// ---------------------------------------------------------------- tokens and TLS

// seen remembers the tokens that calls showed.
type seen struct {
	mu     sync.Mutex
	tokens []string
}

func (s *seen) option() grpc.ServerOption {
	return grpc.ChainUnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		headers, _ := metadata.FromIncomingContext(ctx)
		s.mu.Lock()
		s.tokens = append(s.tokens, strings.Join(headers.Get("authorization"), "|"))
		s.mu.Unlock()
		return next(ctx, request)
	})
}

func (s *seen) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens[len(s.tokens)-1]
}

func TestToken(t *testing.T) {
	f, shown := newFake(t), &seen{}
	f.options = []grpc.ServerOption{shown.option()}
	f.start()
	connected(t, f)
	if shown.last() != "" {
		t.Error(shown.last())
	}
	connected(t, f, sidecar.WithToken("one"))
	if shown.last() != "Bearer one" {
		t.Error(shown.last())
	}

	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("two\n")
	t.Setenv("SIDECAR_TOKEN_FILE", file)
	node := connected(t, f)
	if shown.last() != "Bearer two" {
		t.Error(shown.last())
	}
	write("another\n") // of another size: no clock is so fine that the time alone would do
	if _, err := node.Info(t.Context()); err != nil || shown.last() != "Bearer another" {
		t.Error(err, shown.last())
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	// What passes: no file, an empty one, half of one, one that is a folder.
	again := func() {
		t.Helper()
		if _, err := node.Info(t.Context()); err != nil || shown.last() != "Bearer another" {
			t.Error(err, shown.last())
		}
	}
	again()
	for _, text := range []string{"", "\n", "two words", "sch\u00f6n"} {
		write(text)
		again()
	}
	if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o700)); err != nil {
		t.Fatal(err)
	}
	again()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	write("rotated\n")
	if _, err := node.Info(t.Context()); err != nil || shown.last() != "Bearer rotated" {
		t.Error(err, shown.last())
	}
	// A token of the same length in a file that looks as old: only the file itself is another.
	kept, err := os.Stat(file)
	if err == nil {
		err = os.WriteFile(file+".new", []byte("renewed\n"), 0o600)
	}
	if err = errors.Join(err, os.Chtimes(file+".new", kept.ModTime(), kept.ModTime()), os.Rename(file+".new", file)); err != nil {
		t.Fatal(err)
	}
	if _, err := node.Info(t.Context()); err != nil || shown.last() != "Bearer renewed" {
		t.Error(err, shown.last())
	}

	t.Setenv("SIDECAR_TOKEN", "three\r")
	connected(t, f)
	if shown.last() != "Bearer three" {
		t.Error(shown.last())
	}
}

func TestTokensThatAreNotSent(t *testing.T) {
	for target, token := range map[string]string{
		"192.0.2.1:4747":   "secret", // in plain text, over a network
		"sidecar.test:474": "secret",
		"127.0.0.1:1":      "two words",
		"/nowhere":         "sch\u00f6n",
	} {
		_, err := sidecar.Connect(t.Context(), sidecar.WithTarget(target), sidecar.WithToken(token), sidecar.WithWait(0))
		if failure := wantError(t, err, sidecar.ErrInvalidArgument); failure.Field != "token" {
			t.Errorf("%s: %+v", target, failure)
		}
		if strings.Contains(err.Error(), token) {
			t.Errorf("%q shows the token", err)
		}
	}
	_, err := sidecar.Connect(t.Context(), sidecar.WithTarget("/nowhere"), sidecar.WithTokenFile("/nowhere"))
	if failure := wantError(t, err, sidecar.ErrInvalidArgument); failure.Field != "token_file" || !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// certificate makes a certificate for a name, signed by another or by itself, and writes it in PEM form.
func certificate(t *testing.T, directory, name string, parent *tls.Certificate) (pair tls.Certificate, file, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(int64(len(name))),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		DNSNames:              []string{name},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  parent == nil,
		BasicConstraintsValid: true,
	}
	signer, signerKey := template, any(key)
	if parent != nil {
		signer, signerKey = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, &key.PublicKey, signerKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyText := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	file, keyFile = filepath.Join(directory, name+".pem"), filepath.Join(directory, name+".key")
	for path, content := range map[string][]byte{file: text, keyFile: keyText} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if pair, err = tls.X509KeyPair(text, keyText); err != nil {
		t.Fatal(err)
	}
	if pair.Leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return pair, file, keyFile
}

func TestTLS(t *testing.T) {
	directory := t.TempDir()
	authority, authorityFile, _ := certificate(t, directory, "authority", nil)
	server, _, _ := certificate(t, directory, "localhost", &authority)
	_, clientFile, clientKey := certificate(t, directory, "client", &authority)
	trusted := x509.NewCertPool()
	trusted.AddCert(authority.Leaf)

	f, shown := newFake(t), &seen{}
	f.options = []grpc.ServerOption{shown.option(), grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{server}, ClientCAs: trusted, ClientAuth: tls.RequireAndVerifyClientCert,
	}))}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.serveOn(listener)
	target := sidecar.WithTarget("tls://localhost:" + portOf(listener))

	// Files, and a token, which TLS keeps secret.
	node := connected(t, f, target, sidecar.WithTLSFiles(authorityFile, clientFile, clientKey), sidecar.WithToken("secret"))
	if shown.last() != "Bearer secret" || !strings.HasPrefix(node.Target(), "tls://") {
		t.Error(shown.last(), node.Target())
	}
	// A whole configuration.
	pair, err := tls.LoadX509KeyPair(clientFile, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	connected(t, f, target, sidecar.WithTLSConfig(&tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{pair}}))
	// The environment.
	t.Setenv("SIDECAR_TLS_CA", authorityFile)
	t.Setenv("SIDECAR_TLS_CERT", clientFile)
	t.Setenv("SIDECAR_TLS_KEY", clientKey)
	connected(t, f, target)

	// Nobody who is not trusted, and nobody who does not show a certificate.
	t.Setenv("SIDECAR_TLS_CA", "")
	_, err = sidecar.Connect(t.Context(), target, sidecar.WithWait(0))
	if failure := wantError(t, err, sidecar.ErrSidecarUnavailable); !strings.Contains(failure.Message, "certificate") {
		t.Error(err)
	}
	t.Setenv("SIDECAR_TLS_CERT", "")
	_, err = sidecar.Connect(t.Context(), target, sidecar.WithWait(0))
	if failure := wantError(t, err, sidecar.ErrInvalidArgument); failure.Field != "tls_cert" {
		t.Error(err)
	}
	_, err = sidecar.Connect(t.Context(), target, sidecar.WithTLSFiles("/nowhere", "", ""))
	if failure := wantError(t, err, sidecar.ErrInvalidArgument); failure.Field != "tls_ca" {
		t.Error(err)
	}
	_, err = sidecar.Connect(t.Context(), target, sidecar.WithTLSFiles(clientKey, "", ""))
	wantError(t, err, sidecar.ErrInvalidArgument)
	_, err = sidecar.Connect(t.Context(), sidecar.WithTarget("/nowhere"), sidecar.WithTLSFiles(authorityFile, "", ""))
	wantError(t, err, sidecar.ErrInvalidArgument)
}

// ---------------------------------------------------------------- errors

func TestErrors(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	for _, row := range []struct {
		answer error
		kinds  []error // from the exact one up
		field  string
		retry  time.Duration
	}{
		{refused(codes.InvalidArgument, "INVALID_PEER_ID", "m", "peer_id", 0), []error{sidecar.ErrInvalidPeerId, sidecar.ErrInvalidArgument}, "peer_id", 0},
		{refused(codes.InvalidArgument, "INVALID_MULTIADDR", "m", "addresses", 0), []error{sidecar.ErrInvalidMultiaddr, sidecar.ErrInvalidArgument}, "addresses", 0},
		{refused(codes.InvalidArgument, "SELF_DIAL", "m", "", 0), []error{sidecar.ErrSelfDial, sidecar.ErrInvalidArgument}, "", 0},
		{refused(codes.InvalidArgument, "TOO_LARGE", "m", "", 0), []error{sidecar.ErrTooLarge, sidecar.ErrInvalidArgument}, "", 0},
		{refused(codes.NotFound, "NOT_FOUND", "m", "", 0), []error{sidecar.ErrNotFound}, "", 0},
		{refused(codes.AlreadyExists, "ALREADY_EXISTS", "m", "", 0), []error{sidecar.ErrAlreadyExists}, "", 0},
		{refused(codes.Unimplemented, "NOT_SUPPORTED", "m", "", 0), []error{sidecar.ErrNotSupported}, "", 0},
		{refused(codes.Unavailable, "UNREACHABLE", "m", "", 0), []error{sidecar.ErrUnreachable}, "", 0},
		{refused(codes.Unavailable, "NO_ADDRESSES", "m", "", 0), []error{sidecar.ErrNoAddresses, sidecar.ErrUnreachable}, "", 0},
		{refused(codes.Unavailable, "DIAL_TIMEOUT", "m", "", 0), []error{sidecar.ErrDialTimeout, sidecar.ErrUnreachable}, "", 0},
		{refused(codes.Unavailable, "DIAL_BACKOFF", "m", "", 5*time.Second), []error{sidecar.ErrDialBackoff, sidecar.ErrUnreachable}, "", 5 * time.Second},
		{refused(codes.Unavailable, "NO_QUORUM", "m", "", 0), []error{sidecar.ErrNoQuorum, sidecar.ErrUnreachable}, "", 0},
		{refused(codes.Unavailable, "CLOSED", "m", "", 0), []error{sidecar.ErrClosed}, "", 0},
		{refused(codes.Aborted, "STREAM_RESET", "m", "", 0), []error{sidecar.ErrStreamReset, sidecar.ErrClosed}, "", 0},
		{refused(codes.Unavailable, "PROTOCOL_ERROR", "m", "", 0), []error{sidecar.ErrProtocolError}, "", 0},
		{refused(codes.Unavailable, "FRAME_TOO_LARGE", "m", "", 0), []error{sidecar.ErrFrameTooLarge, sidecar.ErrProtocolError}, "", 0},
		{refused(codes.Unavailable, "HANDSHAKE_ERROR", "m", "", 0), []error{sidecar.ErrHandshakeError, sidecar.ErrProtocolError}, "", 0},
		{refused(codes.Unavailable, "HANDSHAKE_TIMEOUT", "m", "", 0), []error{sidecar.ErrHandshakeTimeout, sidecar.ErrHandshakeError, sidecar.ErrProtocolError}, "", 0},
		{refused(codes.FailedPrecondition, "WRONG_PRIVATE_NETWORK", "m", "", 0), []error{sidecar.ErrWrongPrivateNetwork, sidecar.ErrHandshakeError, sidecar.ErrProtocolError}, "", 0},
		{refused(codes.Unavailable, "KEEP_ALIVE_TIMEOUT", "m", "", 0), []error{sidecar.ErrKeepAliveTimeout, sidecar.ErrProtocolError}, "", 0},
		{refused(codes.Unavailable, "WRITE_STALLED", "m", "", 0), []error{sidecar.ErrWriteStalled, sidecar.ErrProtocolError}, "", 0},
		{refused(codes.FailedPrecondition, "WRONG_PEER", "m", "", 0), []error{sidecar.ErrWrongPeer}, "", 0},
		{refused(codes.FailedPrecondition, "WRONG_NETWORK", "m", "", 0), []error{sidecar.ErrWrongNetwork}, "", 0},
		{refused(codes.FailedPrecondition, "PEER_BANNED", "m", "", 0), []error{sidecar.ErrPeerBanned}, "", 0},
		{refused(codes.FailedPrecondition, "OUTDATED", "m", "", 0), []error{sidecar.ErrOutdated}, "", 0},
		{refused(codes.FailedPrecondition, "REFUSED", "m", "", 0), []error{sidecar.ErrRefused}, "", 0},
		{refused(codes.FailedPrecondition, "TOPIC_OPTIONS_DIFFER", "m", "", 0), []error{sidecar.ErrTopicOptionsDiffer}, "", 0},
		{refused(codes.ResourceExhausted, "RESOURCE_EXHAUSTED", "m", "", 0), []error{sidecar.ErrResourceExhausted}, "", 0},
		{refused(codes.ResourceExhausted, "QUEUE_FULL", "m", "", time.Second/10), []error{sidecar.ErrQueueFull, sidecar.ErrResourceExhausted}, "", time.Second / 10},
		{refused(codes.ResourceExhausted, "TOO_MANY_CONNECTIONS", "m", "", 0), []error{sidecar.ErrTooManyConnections, sidecar.ErrResourceExhausted}, "", 0},
		{refused(codes.ResourceExhausted, "QUOTA_EXCEEDED", "m", "", time.Second), []error{sidecar.ErrQuotaExceeded, sidecar.ErrResourceExhausted}, "", time.Second},
		{refused(codes.ResourceExhausted, "SLOW_READER", "m", "", 0), []error{sidecar.ErrSlowReader, sidecar.ErrResourceExhausted}, "", 0},
		{refused(codes.DeadlineExceeded, "DEADLINE_EXCEEDED", "m", "", 0), []error{sidecar.ErrDeadlineExceeded}, "", 0},
		{refused(codes.FailedPrecondition, "STATE_LOCKED", "m", "", 0), []error{sidecar.ErrFailedPrecondition}, "", 0},
		{refused(codes.Internal, "STORAGE_ERROR", "m", "", 0), []error{sidecar.ErrStorageError, sidecar.ErrInternalError}, "", 0},
		{refused(codes.Internal, "INTERNAL_ERROR", "m", "", 0), []error{sidecar.ErrInternalError}, "", 0},
		{status.Error(codes.ResourceExhausted, "Received message larger than max (5 vs. 4)"), []error{sidecar.ErrTooLarge, sidecar.ErrInvalidArgument}, "", 0},
		{status.Error(codes.DataLoss, "what is this"), []error{sidecar.ErrInternalError}, "", 0},
	} {
		f.pingPeer = func(context.Context, *pb.PingPeerRequest) (*pb.PingPeerResponse, error) { return nil, row.answer }
		_, err := node.PingPeer(t.Context(), other)
		failure := wantError(t, err, row.kinds[0])
		wanted := map[error]bool{sidecar.ErrSidecar: true}
		for _, kind := range row.kinds {
			wanted[kind] = true
		}
		for _, kind := range allKinds {
			if errors.Is(err, kind) != wanted[kind] {
				t.Errorf("%v is %v: %v", row.answer, kind, !wanted[kind])
			}
		}
		if failure.Field != row.field || failure.RetryAfter != row.retry || failure.Name() != row.kinds[0].Error() {
			t.Errorf("%v: %+v", row.answer, failure)
		}
		sent := status.Convert(row.answer)
		if failure.Code != sent.Code() || status.Code(err) != sent.Code() || len(failure.Details()) != len(sent.Details()) {
			t.Errorf("%v: the status is not in %+v", row.answer, failure)
		}
	}
}

var allKinds = []error{
	sidecar.ErrSidecar, sidecar.ErrSidecarUnavailable, sidecar.ErrInvalidArgument, sidecar.ErrInvalidPeerId,
	sidecar.ErrInvalidMultiaddr, sidecar.ErrSelfDial, sidecar.ErrTooLarge, sidecar.ErrNotFound, sidecar.ErrAlreadyExists,
	sidecar.ErrNotSupported, sidecar.ErrUnreachable, sidecar.ErrNoAddresses, sidecar.ErrDialTimeout, sidecar.ErrDialBackoff,
	sidecar.ErrNoQuorum, sidecar.ErrClosed, sidecar.ErrStreamReset, sidecar.ErrProtocolError, sidecar.ErrFrameTooLarge,
	sidecar.ErrHandshakeError, sidecar.ErrHandshakeTimeout, sidecar.ErrWrongPrivateNetwork, sidecar.ErrKeepAliveTimeout,
	sidecar.ErrWriteStalled, sidecar.ErrWrongPeer, sidecar.ErrWrongNetwork, sidecar.ErrPeerBanned, sidecar.ErrOutdated, sidecar.ErrRefused,
	sidecar.ErrTopicOptionsDiffer, sidecar.ErrResourceExhausted, sidecar.ErrQueueFull, sidecar.ErrTooManyConnections, sidecar.ErrWorkExceeded,
	sidecar.ErrSlowReader, sidecar.ErrQuotaExceeded, sidecar.ErrDeadlineExceeded, sidecar.ErrFailedPrecondition, sidecar.ErrInternalError,
	sidecar.ErrStorageError,
}
