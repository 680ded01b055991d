// Drawing: texts are cut into pieces which are tokenized in random order until there is enough; records are shuffled.
#include "quant/calibration_data.h"

#include <bittern/error.h>

#include <algorithm>
#include <numeric>

#include "base/json.h"
#include "base/random.h"
#include "base/sha256.h"
#include "base/strings.h"
#include "text/parquet.h"

namespace bittern::quant {
namespace {

using Tokens = std::vector<std::int32_t>;

// A sequence this short says nothing of how a model attends.
constexpr std::size_t kShortest = 8;
constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

[[noreturn]] void invalid(const std::string& message, const std::string& hint = {}) {
  throw Error(ErrorCode::invalid_argument, message, hint);
}

enum class DataType { text, json_lines, parquet };

DataType type_of(std::string_view name) {
  const std::string lower = to_lower(name);
  const std::string extension = lower.substr(std::min(lower.rfind('.'), lower.size()));
  if (extension == ".txt" || extension == ".text" || extension == ".md") return DataType::text;
  if (extension == ".jsonl" || extension == ".json") return DataType::json_lines;
  if (extension == ".parquet") return DataType::parquet;
  throw Error(ErrorCode::unsupported, "calibration data '" + std::string(name) + "' is of a type that is not known",
              "give plain text (.txt, .md), JSON lines (.jsonl) or Parquet (.parquet)");
}

template <class T>
void shuffle(std::vector<T>& items, Random& random) {
  for (std::size_t i = items.size(); i > 1; --i) {
    std::swap(items[i - 1], items[random.next_below(static_cast<std::uint32_t>(i))]);
  }
}

// --- Plain text -------------------------------------------------------------------------------------------------

// Pieces of about a MiB that end where a character does.
std::vector<std::string_view> pieces_of(std::string_view text) {
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    std::string_view piece = text.substr(0, kPieceBytes);
    if (piece.size() < text.size()) piece.remove_suffix(utf8_incomplete_tail(piece));
    pieces.push_back(piece);
    text.remove_prefix(piece.size());
  }
  return pieces;
}

std::int32_t opening_token(const text::Tokenizer& tokenizer) {
  const Tokens opening = tokenizer.encode("");
  const std::optional<std::int32_t> bos = tokenizer.special_ids().bos;
  return bos && !opening.empty() && opening.front() == *bos ? *bos : -1;
}

void cut(const Tokens& ids, std::int32_t bos, std::size_t seqlen, std::vector<Tokens>& windows) {
  const std::size_t taken = bos >= 0 ? seqlen - 1 : seqlen;
  for (std::size_t begin = 0; begin + taken <= ids.size(); begin += taken) {
    Tokens& window = windows.emplace_back();
    if (bos >= 0) window.push_back(bos);
    window.insert(window.end(), ids.begin() + static_cast<std::ptrdiff_t>(begin),
                  ids.begin() + static_cast<std::ptrdiff_t>(begin + taken));
  }
}

std::vector<Tokens> text_windows(std::string_view name, std::string_view bytes, const text::Tokenizer& tokenizer,
                                 const CalibrationDataOptions& options, Random& random) {
  if (!utf8_is_valid(bytes)) invalid("calibration data '" + std::string(name) + "' is not UTF-8 text");
  std::vector<std::string_view> pieces = pieces_of(bytes);
  shuffle(pieces, random);
  // Four times as many as needed keep the draw spread over a large file without tokenizing all of it.
  const auto enough = static_cast<std::size_t>(4 * options.samples);
  std::vector<Tokens> windows;
  std::size_t tokens = 0;
  for (const std::string_view piece : pieces) {
    const Tokens ids = tokenizer.encode(piece, {.add_special = false, .parse_special = false});
    tokens += ids.size();
    cut(ids, opening_token(tokenizer), static_cast<std::size_t>(options.seqlen), windows);
    if (windows.size() >= enough) break;
  }
  if (windows.empty()) {
    invalid("calibration data '" + std::string(name) + "' has " + std::to_string(tokens) +
                " tokens, too few for one sequence of " + std::to_string(options.seqlen),
            "give more text, or a smaller --seqlen");
  }
  return windows;
}

// --- Records: JSON lines, and rows of Parquet
// -------------------------------------------------------------------------------------------------

struct Line {
  std::string_view text;
  std::size_t number;  // from 1
};

std::vector<Line> lines_of(std::string_view bytes) {
  std::vector<Line> lines;
  std::size_t number = 0;
  for (const std::string_view line : split(bytes, '\n')) {
    ++number;
    if (!trim(line).empty()) lines.push_back({line, number});
  }
  return lines;
}

std::string keys_of(const OrderedJson& record) {
  std::vector<std::string> keys;
  for (const auto& item : record.items()) keys.push_back(item.key());
  return keys.empty() ? "none" : join(keys, ", ");
}

// Messages of ShareGPT, {"from", "value"}, as {"role", "content"}; others stay as they are.
OrderedJson as_messages(const OrderedJson& list) {
  OrderedJson messages = OrderedJson::array();
  for (const OrderedJson& message : list) {
    if (!message.is_object() || !message.contains("from") || !message.contains("value")) {
      messages.push_back(message);
      continue;
    }
    OrderedJson role = message["from"];
    if (role == "human") role = "user";
    if (role == "gpt") role = "assistant";
    messages.push_back({{"role", role}, {"content", message["value"]}});
  }
  return messages;
}

class RecordReader {
 public:
  RecordReader(std::string_view name, const text::Tokenizer& tokenizer, const text::ChatTemplate* chat_template,
               std::string column)
      : name_(name), tokenizer_(tokenizer), template_(chat_template), column_(std::move(column)) {}

  Tokens read(const Line& line) const {
    const std::string where = name_ + ": line " + std::to_string(line.number);
    parse_json(line.text, where);  // depth and syntax; below the order of keys matters, which templates print
    const OrderedJson record = OrderedJson::parse(line.text);
    if (!record.is_object())
      invalid(where + " is not an object", "each line is {\"text\": ...} or {\"messages\": [...]}");
    if (!column_.empty()) return chosen(record, where);
    if (record.contains("messages")) return chat(record["messages"], where);
    if (record.contains("conversations")) return chat(record["conversations"], where);
    if (record.contains("text")) return tokenizer_.encode(field(record, "text", where), {.parse_special = false});
    if (record.contains("prompt") && record.contains("completion")) return pair(record, where);
    invalid(where + " has no 'text', 'messages' or 'conversations', and no 'prompt' with 'completion'; it has: " +
                keys_of(record),
            "name the one to use with --column");
  }

 private:
  static std::string field(const OrderedJson& record, const char* key, const std::string& where) {
    if (!record[key].is_string()) invalid(where + ": '" + key + "' is not a string");
    return record[key].get<std::string>();
  }
  // The column that --column names: a text, or a conversation.
  Tokens chosen(const OrderedJson& record, const std::string& where) const {
    if (!record.contains(column_)) invalid(where + " has no '" + column_ + "'; it has: " + keys_of(record));
    if (record[column_].is_array()) return chat(record[column_], where);
    return tokenizer_.encode(field(record, column_.c_str(), where), {.parse_special = false});
  }
  Tokens chat(const OrderedJson& list, const std::string& where) const {
    if (!list.is_array() || list.empty()) invalid(where + ": the conversation is not a list with messages");
    const OrderedJson messages = as_messages(list);
    if (template_ == nullptr) {
      invalid(where + " has a conversation, but " + tokenizer_.origin() + " has no chat template",
              "give data with 'text', or a template with --chat-template");
    }
    text::ChatRequest request;
    request.messages = messages;
    request.add_generation_prompt = false;
    try {
      return text::encode_chat(tokenizer_, *template_, request);
    } catch (const Error& error) {
      throw Error(error.code(), where + ": " + error.message(), error.hint());
    }
  }
  Tokens pair(const OrderedJson& record, const std::string& where) const {
    const std::string prompt = field(record, "prompt", where), completion = field(record, "completion", where);
    if (template_ == nullptr) return tokenizer_.encode(prompt + completion, {.parse_special = false});
    return chat({{{"role", "user"}, {"content", prompt}}, {{"role", "assistant"}, {"content", completion}}}, where);
  }

  std::string name_;
  const text::Tokenizer& tokenizer_;
  const text::ChatTemplate* template_;
  std::string column_;  // "": the usual ones
};

std::vector<Tokens> record_sequences(std::string_view name, std::string_view bytes, const text::Tokenizer& tokenizer,
                                     const text::ChatTemplate* chat_template, const CalibrationDataOptions& options,
                                     Random& random) {
  std::vector<Line> lines = lines_of(bytes);
  if (lines.empty()) invalid("calibration data '" + std::string(name) + "' has no records: every line is empty");
  shuffle(lines, random);
  const RecordReader reader(name, tokenizer, chat_template, options.column);
  std::vector<Tokens> sequences;
  for (const Line& line : lines) {
    Tokens ids = reader.read(line);
    if (ids.size() > static_cast<std::size_t>(options.seqlen)) ids.resize(static_cast<std::size_t>(options.seqlen));
    if (ids.size() >= kShortest) sequences.push_back(std::move(ids));
    if (std::ssize(sequences) == options.samples) break;
  }
  if (sequences.empty()) {
    invalid("calibration data '" + std::string(name) + "' has no record of " + std::to_string(kShortest) +
            " tokens or more");
  }
  return sequences;
}

std::string parquet_rows(std::string_view name, std::string_view bytes, const std::string& column) {
  if (!column.empty()) return text::parquet_json_lines(name, bytes, {column});
  return text::parquet_json_lines(name, bytes, {"messages", "conversations", "text", "prompt", "completion"});
}

// --- Checks -----------------------------------------------------------------------------------------------------

void check_options(const CalibrationDataOptions& options) {
  if (options.samples < 1) invalid("--samples must be at least 1");
  if (options.seqlen < static_cast<std::int64_t>(kShortest)) invalid("--seqlen must be at least 8");
  if (options.max_positions > 0 && options.seqlen > options.max_positions) {
    invalid("--seqlen " + std::to_string(options.seqlen) + " is more than the model's context of " +
            std::to_string(options.max_positions));
  }
}

void check_vocabulary(const CalibrationData& data, std::int64_t vocab) {
  if (vocab == 0) return;
  for (const Tokens& sample : data.samples) {
    for (const std::int32_t id : sample) {
      if (id >= 0 && id < vocab) continue;
      throw Error(ErrorCode::invalid_checkpoint, "the tokenizer makes token " + std::to_string(id) +
                                                     ", the model has " + std::to_string(vocab) + " of them");
    }
  }
}

}  // namespace

std::int64_t CalibrationData::tokens() const {
  return std::accumulate(samples.begin(), samples.end(), std::int64_t{0},
                         [](std::int64_t sum, const Tokens& sample) { return sum + std::ssize(sample); });
}

void check_data_type(std::string_view name) { type_of(name); }

CalibrationData make_calibration_data(std::string_view name, std::string_view bytes, const text::Tokenizer& tokenizer,
                                      const text::ChatTemplate* chat_template, const CalibrationDataOptions& options) {
  const DataType type = type_of(name);
  check_options(options);
  if (type == DataType::text && !options.column.empty())
    invalid("--column is for records; '" + std::string(name) + "' is plain text");
  if (trim(bytes).empty()) invalid("calibration data '" + std::string(name) + "' is empty");
  Random random(options.seed);
  CalibrationData data;
  data.name = name.substr(name.rfind('/') + 1);
  if (!options.column.empty()) data.name += ":" + options.column;
  data.sha256 = sha256(bytes);
  if (type == DataType::text) {
    data.samples = text_windows(name, bytes, tokenizer, options, random);
  } else {
    const std::string rows = type == DataType::parquet ? parquet_rows(name, bytes, options.column) : "";
    data.samples = record_sequences(name, type == DataType::parquet ? std::string_view(rows) : bytes, tokenizer,
                                    chat_template, options, random);
  }
  data.available = std::ssize(data.samples);
  shuffle(data.samples, random);
  if (data.available > options.samples) data.samples.resize(static_cast<std::size_t>(options.samples));
  check_vocabulary(data, options.vocab);
  return data;
}

}  // namespace bittern::quant
