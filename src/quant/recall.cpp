// The text: people with common first names and made-up surnames stand among small sentences. All names but the needle's
// are distractors, so finding any surname is not enough.
#include "quant/recall.h"

#include <bittern/error.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "base/random.h"

namespace bittern::quant {
namespace {

// The words of the sentences: those of models/mini/lexicon.py, which its model knows.
constexpr std::string_view kNames[] = {"Anna",  "Ben",  "Clara", "David",  "Emma",  "Felix", "Grace",  "Henry",
                                       "Iris",  "Jack", "Kate",  "Leo",    "Mia",   "Noah",  "Olivia", "Paul",
                                       "Rosa",  "Sam",  "Tina",  "Victor", "Wendy", "Max",   "Lucy",   "Oscar",
                                       "Ella",  "Tom",  "Nina",  "Hugo",   "Sara",  "Adam",  "Julia",  "Peter",
                                       "Maria", "John", "Alice", "Bob",    "Carl",  "Dora",  "Eva",    "Frank"};
constexpr std::string_view kSyllables[] = {"ba", "be", "bo", "da", "de", "do", "fa", "fi", "ga", "go", "ha", "jo", "ka",
                                           "ki", "ko", "la", "le", "li", "lo", "ma", "me", "mi", "mo", "na", "ne", "ni",
                                           "no", "pa", "pe", "po", "ra", "re", "ri", "ro", "sa", "se", "si", "so", "ta",
                                           "te", "ti", "to", "va", "vi", "vo", "wa", "za", "ze", "zo"};
constexpr std::string_view kCodas[] = {"", "", "n", "r", "s", "l", "k", "m", "t"};
constexpr std::string_view kAnimals[] = {"fox",  "owl",   "bear", "cat",   "dog", "mouse", "rabbit", "duck",
                                         "frog", "horse", "goat", "sheep", "pig", "hen",   "crow",   "wolf"};
constexpr std::string_view kPlaces[] = {"forest", "river",  "garden", "village", "hill", "lake",   "farm",   "market",
                                        "castle", "bridge", "beach",  "valley",  "mill", "meadow", "school", "library"};
constexpr std::string_view kWeather[] = {"sunny", "rainy", "windy", "cold", "warm", "cloudy", "foggy", "snowy"};
constexpr std::string_view kFoods[] = {"bread", "cheese", "apples", "soup", "cake", "honey", "rice",
                                       "plums", "nuts",   "beans",  "corn", "pie",  "fish",  "grapes"};
constexpr std::string_view kHobbies[] = {"reading", "painting", "swimming", "cooking", "singing",
                                         "dancing", "fishing",  "running",  "chess",   "music"};
constexpr std::string_view kJobs[] = {"baker",  "farmer", "teacher", "doctor", "sailor",
                                      "miller", "singer", "hunter",  "tailor", "king"};
constexpr std::string_view kColors[] = {"red", "blue", "green", "yellow", "white", "black", "brown", "pink", "golden"};
constexpr std::string_view kObjects[] = {"lamp", "key",  "book", "box", "ring",  "coin",    "hat",    "cup",
                                         "bell", "drum", "kite", "map", "spoon", "feather", "candle", "mirror"};
constexpr std::string_view kTraits[] = {"kind", "brave", "small", "clever", "quiet", "young", "happy", "shy", "proud"};
constexpr std::string_view kDays[] = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};

template <std::size_t kCount>
std::string pick(Random& random, const std::string_view (&words)[kCount]) {
  return std::string(words[random.next_below(kCount)]);
}

std::string surname(Random& random) {
  constexpr int kLengths[] = {2, 2, 3};
  std::string name;
  for (int i = kLengths[random.next_below(3)]; i > 0; --i) name += pick(random, kSyllables);
  name += pick(random, kCodas);
  name[0] = static_cast<char>(name[0] - 'a' + 'A');
  return name;
}

/// Somebody who is not one of the people of the text.
std::string stranger(Random& random, const std::vector<std::string>& people) {
  for (;;) {
    const std::string name = pick(random, kNames);
    if (std::find(people.begin(), people.end(), name) == people.end()) return name;
  }
}

std::string filler(Random& random, const std::vector<std::string>& people) {
  // Drawn one after the other: the order of evaluation within an expression is the compiler's.
  const auto two = [&](const auto& first, const auto& second) {
    std::string a = pick(random, first);
    return std::pair(std::move(a), pick(random, second));
  };
  switch (random.next_below(6)) {
    case 0: {
      const auto [animal, place] = two(kAnimals, kPlaces);
      return "The " + animal + " went to the " + place + ".";
    }
    case 1: {
      const auto [weather, place] = two(kWeather, kPlaces);
      return "It was " + weather + " in the " + place + ".";
    }
    case 2: {
      const std::string name = stranger(random, people);
      const auto [food, hobby] = two(kFoods, kHobbies);
      return name + " likes " + food + " and " + hobby + ".";
    }
    case 3: {
      const std::string job = pick(random, kJobs);
      const auto [color, object] = two(kColors, kObjects);
      return "The " + job + " has a " + color + " " + object + ".";
    }
    case 4: {
      const std::string name = stranger(random, people);
      const auto [trait, animal] = two(kTraits, kAnimals);
      return name + " saw a " + trait + " " + animal + ".";
    }
    default: {
      const std::string day = pick(random, kDays);
      const auto [job, food] = two(kJobs, kFoods);
      return "On " + day + " the " + job + " ate " + food + ".";
    }
  }
}

std::string planted(Random& random, const std::string& name) {
  switch (random.next_below(3)) {
    case 0: return "Our guest " + name + " came by train.";
    case 1: return "The book is by " + name + ".";
    default: return "Then " + name + " sang a song.";
  }
}

/// Everything of a prompt but how long it is: sentences can be taken away from `fillers` until it fits.
struct Draft {
  std::vector<std::string> people, surnames;  // the first is asked for
  std::vector<std::string> sentences;         // one for each of the people
  std::vector<double> places;                 // where each stands, 0 to 1
  std::vector<std::string> fillers;
};

Draft make_draft(const RecallPlace& place, Random& random) {
  Draft draft;
  const std::int64_t people = std::clamp<std::int64_t>(2 + place.length / 100, 2, 8);
  for (std::int64_t i = 0; i < people; ++i) {
    draft.people.push_back(stranger(random, draft.people));
    draft.surnames.push_back(surname(random));
    draft.sentences.push_back(planted(random, draft.people.back() + " " + draft.surnames.back()));
    draft.places.push_back(i == 0 ? place.depth : random.next_double());
  }
  // No tokenizer makes a sentence of five words into fewer than five tokens.
  for (std::int64_t i = 0; i < place.length / 5; ++i) draft.fillers.push_back(filler(random, draft.people));
  return draft;
}

/// The text with the first `fillers` sentences of filling.
RecallText assemble(const Draft& draft, std::size_t fillers) {
  std::vector<std::vector<std::size_t>> before(fillers + 1);  // people who stand before each sentence
  for (std::size_t i = draft.people.size(); i-- > 0;) {
    auto& slot = before[static_cast<std::size_t>(std::llround(draft.places[i] * static_cast<double>(fillers)))];
    // Among names at one place the needle is the outermost where its depth is an end.
    i == 0 && draft.places[0] < 0.5 ? slot.insert(slot.begin(), i) : slot.insert(slot.end(), i);
  }
  RecallText text;
  text.context = "Read this text.";
  for (std::size_t i = 0; i <= fillers; ++i) {
    for (const std::size_t person : before[i]) text.context += " " + draft.sentences[person];
    if (i < fillers) text.context += " " + draft.fillers[i];
  }
  text.question = "What is the full name of " + draft.people[0] + "?";
  text.reply = "The full name is " + draft.people[0];
  text.value = " " + draft.surnames[0];
  return text;
}

std::uint64_t stream_of(const RecallPlace& place) {
  const auto depth = static_cast<std::uint64_t>(std::llround(place.depth * 1e6));
  return (static_cast<std::uint64_t>(place.length) << 44) ^ (depth << 20) ^ static_cast<std::uint64_t>(place.sample);
}

[[noreturn]] void refuse(std::string message, std::string hint = {}) {
  throw Error(ErrorCode::invalid_argument, std::move(message), std::move(hint));
}

}  // namespace

std::vector<RecallPlace> recall_places(const RecallOptions& options) {
  if (options.lengths.empty()) refuse("recall needs at least one length");
  if (options.depths.empty()) refuse("recall needs at least one depth");
  if (options.samples < 1) refuse("recall needs at least one sample for each length and depth");
  for (const double depth : options.depths) {
    if (!(depth >= 0 && depth <= 1)) refuse("a depth of " + std::to_string(depth) + " does not lie between 0 and 1");
  }
  std::vector<RecallPlace> places;
  for (const std::int64_t length : options.lengths) {
    for (const double depth : options.depths) {
      for (int sample = 0; sample < options.samples; ++sample) places.push_back({length, depth, sample});
    }
  }
  return places;
}

RecallText make_recall_text(const RecallPlace& place, std::uint64_t seed,
                            const std::function<std::int64_t(const RecallText&)>& count_tokens) {
  Random random(seed, stream_of(place));
  const Draft draft = make_draft(place, random);
  // The most sentences that fit, by bisection: tokens grow with text.
  std::size_t fits = 0, too_many = draft.fillers.size() + 1;
  const std::int64_t least = count_tokens(assemble(draft, 0));
  if (least > place.length) {
    refuse("a length of " + std::to_string(place.length) + " tokens holds no text: the names and the question take " +
               std::to_string(least),
           "choose longer ones with --lengths");
  }
  while (too_many - fits > 1) {
    const std::size_t middle = fits + (too_many - fits) / 2;
    count_tokens(assemble(draft, middle)) <= place.length ? fits = middle : too_many = middle;
  }
  return assemble(draft, fits);
}

RecallAnswer ask_recall(LogitSource& source, const RecallPrompt& prompt) {
  if (std::ssize(prompt.ids) > source.max_context()) {
    refuse("a prompt of " + std::to_string(prompt.ids.size()) +
               " tokens does not fit, this model with its KV cache holds " + std::to_string(source.max_context()),
           "choose shorter ones with --lengths");
  }
  std::vector<bool> want(prompt.ids.size(), false);
  for (const std::int64_t position : prompt.scored) want[static_cast<std::size_t>(position) - 1] = true;
  RecallAnswer answer{true, 0, std::ssize(prompt.scored)};
  source.run(prompt.ids, want, [&](std::int64_t index, std::span<const float> logits) {
    const std::int32_t next = prompt.ids[static_cast<std::size_t>(index) + 1];
    const auto top = std::max_element(logits.begin(), logits.end()) - logits.begin();
    answer.recalled = answer.recalled && top == next;
    answer.nll += token_nll(logits, next, "at token " + std::to_string(index) + " of a recall prompt");
  });
  return answer;
}

}  // namespace bittern::quant
