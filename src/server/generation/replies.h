// Replies made of a generation: whole, once it has ended, or event by event. What an API writes is left to a writer;
// waking, reading without blocking and cancelling when the client is gone happen here once for all of them.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "server/generation/generation.h"
#include "server/http/message.h"

namespace bittern::server {

/// What one API sends while a generation runs, as bytes of the body. It is used by one thread at a time.
class StreamWriter {
 public:
  virtual ~StreamWriter() = default;
  /// Before any event; the prompt has been accepted.
  virtual void begin(const Generation&, std::string& /*out*/) {}
  virtual void event(const Generation& generation, const TextEvent& event, std::string& out) = 0;
  /// After the last event.
  virtual void end(const Generation&, std::string& /*out*/) {}
  /// See BodySource::ping.
  virtual std::string_view ping() const { return ": ping\n\n"; }
};

/// A reply of server-sent events.
HttpReply stream_reply(std::unique_ptr<Generation> generation, std::unique_ptr<StreamWriter> writer);

/// A reply that is complete when the generation has ended: `collect` sees every event, then `finish` makes the reply.
/// Either may throw, which ends the request with that error.
HttpReply whole_reply(std::unique_ptr<Generation> generation, std::function<void(const TextEvent&)> collect,
                      std::function<HttpReply(const Generation&)> finish);

/// "event: NAME\ndata: JSON\n\n", without the first line when `name` is empty.
void append_sse(std::string& out, std::string_view name, const OrderedJson& data);

}  // namespace bittern::server
