package rotation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// ErrUnknownMember says that no record of the member exists.
var ErrUnknownMember = errors.New("unknown member")

// ErrRevoked says that the member was removed: it gets nothing more.
var ErrRevoked = errors.New("member was removed")

const membersPrefix = "members/"

// memberKey is where a member's record stands. Bytes that a store key cannot hold are written --hh, and so is a
// hyphen that could be taken for such an escape; what would be too long for a file name is named by its hash.
func memberKey(id fingerprint.Identity) string {
	var b strings.Builder
	literal := func(i int) bool {
		return i >= 0 && i < len(id.ID) && (id.ID[i] >= 'a' && id.ID[i] <= 'z' || id.ID[i] >= '0' && id.ID[i] <= '9')
	}
	for i := range len(id.ID) {
		if literal(i) || id.ID[i] == '-' && literal(i-1) && literal(i+1) {
			b.WriteByte(id.ID[i])
		} else {
			fmt.Fprintf(&b, "--%02x", id.ID[i])
		}
	}
	name := b.String()
	if len(name) > 128 {
		sum := sha256.Sum256([]byte(id.ID))
		name = "--x" + hex.EncodeToString(sum[:])
	}
	return membersPrefix + string(id.Role) + "/" + name
}

// member reads one record. The error wraps ErrUnknownMember when there is none.
func (c *Cluster) member(ctx context.Context, id fingerprint.Identity) (Member, keystore.Revision, error) {
	record, err := c.cfg.Store.Load(ctx, memberKey(id))
	if errors.Is(err, fs.ErrNotExist) {
		return Member{}, 0, fmt.Errorf("%w %q", ErrUnknownMember, id)
	}
	if err != nil {
		return Member{}, 0, err
	}
	m, err := decodeMember(record.Value)
	return m, record.Revision, err
}

// members reads all records in one linearizable list.
func (c *Cluster) members(ctx context.Context) ([]Member, error) {
	records, _, err := c.cfg.Store.List(ctx, membersPrefix)
	if err != nil {
		return nil, err
	}
	members := make([]Member, 0, len(records))
	for _, r := range records {
		m, err := decodeMember(r.Value)
		if err != nil {
			return nil, fmt.Errorf("record %q: %w", r.Key, err)
		}
		members = append(members, m)
	}
	return members, nil
}

// update changes one member's record by compare-and-swap, again and again until nobody was in between: edit sees the
// newest record each time, so an issue and a revocation cannot cross. An edit that changes nothing writes nothing.
func (c *Cluster) update(ctx context.Context, id fingerprint.Identity, edit func(Member) (Member, error)) (Member, error) {
	for {
		held, revision, err := c.member(ctx, id)
		if err != nil {
			return Member{}, err
		}
		before, err := held.encode()
		if err != nil {
			return Member{}, err
		}
		next, err := edit(held)
		if err != nil {
			return Member{}, err
		}
		after, err := next.encode()
		if err != nil {
			return Member{}, err
		}
		if bytes.Equal(before, after) {
			return next, nil
		}
		_, err = c.cfg.Store.Replace(ctx, memberKey(id), revision, after)
		if err == nil {
			return next, nil
		}
		if !errors.Is(err, keystore.ErrConflict) {
			return Member{}, err
		}
	}
}
