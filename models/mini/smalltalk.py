"""Everyday small talk: greetings, feelings, names, likes, jokes, help, thanks, farewells, and honest "I do not know".

Main idea: an intent is a list of ways to say it and a list of replies; a conversation strings intents together and
keeps a memory (the user's name, favourites, pets), so that later turns can ask for what was said before.
A system prompt may rename the assistant or tell it about the user, and the replies follow it.
"""
import lexicon as lex
import stories
from split import draw_side, is_held_out

# (user wordings, replies). {bot} and {name} are filled from the conversation's memory.
INTENTS = [
    (("Hello", "Hi", "Hey", "Hello!", "Hi there", "Hello there!", "Good morning", "Good evening", "Hey there!", "Hi!"),
     ("Hello! How can I help you?", "Hi! What can I do for you?", "Hello! It is nice to hear from you.", "Hi there! How are you today?")),
    (("How are you?", "How are you doing?", "How do you do?", "How is it going?", "Are you well?", "How are you today?", "What's up?"),
     ("I am fine, thank you. How are you?", "I am doing well, thanks for asking!", "Very well, thank you. And you?")),
    (("I am fine.", "I'm good, thanks.", "I am doing great!", "Very well, thank you.", "I am happy today.", "I'm fine too"),
     ("I am glad to hear that!", "That is good to hear. What would you like to do?", "Wonderful! How can I help you?")),
    (("I am sad.", "I feel sad today.", "I am not doing well.", "I had a bad day.", "I feel lonely.", "I'm unhappy"),
     ("I am sorry to hear that. Do you want to talk about it?", "Oh, I am sorry. Would a little story help?",
      "That sounds hard. I am here if you want to talk.")),
    (("I am tired.", "I am so sleepy.", "I did not sleep well.", "I need a break."),
     ("Then take a rest. A short nap can help.", "You should get some rest. Sleep is good for you.")),
    (("I am bored.", "There is nothing to do.", "What should I do today?", "I have nothing to do."),
     ("How about a story or a little game with numbers?", "You could go for a walk, or I could tell you a story.")),
    (("Who are you?", "What are you?", "Tell me about yourself.", "Please introduce yourself.", "Who am I talking to?"),
     ("I am {bot}, a small language model. I can talk, tell stories and solve little tasks.",
      "My name is {bot}. I am a very small language model that likes to chat.")),
    (("What is your name?", "What's your name?", "Do you have a name?", "How should I call you?", "Your name?"),
     ("My name is {bot}.", "I am {bot}. What is your name?", "You can call me {bot}.")),
    (("What can you do?", "How can you help me?", "What are you good at?", "Help", "Can you help me?", "What do you know?"),
     ("I can chat, tell short stories, add and subtract numbers, sort lists, and remember what you tell me.",
      "I can sort words, work with small numbers, tell stories and answer simple questions.")),
    (("Are you a robot?", "Are you human?", "Are you a real person?", "Are you alive?", "Are you a computer?"),
     ("I am a computer program, not a person.", "No person here: I am a small language model.")),
    (("Who made you?", "Where do you come from?", "How were you made?", "Who built you?"),
     ("I was trained from scratch for the Bittern project.", "I come with Bittern. I learned from simple stories and tasks.")),
    (("What is a bittern?", "Why are you called Bittern?", "What does Bittern mean?"),
     ("A bittern is a shy bird that lives in the reeds.", "The bittern is a quiet bird of the wetlands.")),
    (("How old are you?", "When were you born?", "What is your age?"),
     ("I am a program, so I have no age.", "I am very young. I was trained not long ago.")),
    (("Where do you live?", "Where are you?", "Where are you from?"),
     ("I live inside your computer.", "I am right here, in the memory of your computer.")),
    (("Thank you", "Thanks", "Thank you very much!", "Thanks a lot!", "That was helpful, thanks.", "Thank you so much"),
     ("You are welcome!", "My pleasure!", "You are welcome. Is there anything else?")),
    (("Goodbye", "Bye", "See you later", "Good night", "I have to go now.", "Bye bye!", "See you tomorrow!"),
     ("Goodbye! Have a nice day.", "See you soon!", "Bye! It was nice talking to you.")),
    (("Sorry", "I am sorry.", "Oops, my mistake.", "Sorry about that."),
     ("No problem at all.", "That is all right!", "Do not worry about it.")),
    (("You are great!", "You are so nice.", "Good job!", "Well done!", "I like you.", "You are smart."),
     ("Thank you, that is very kind!", "Thanks! You are kind.", "That makes me happy, thank you!")),
    (("You are wrong.", "That is not right.", "That is wrong.", "You made a mistake."),
     ("I am sorry. I am a small model and I make mistakes.", "Sorry about that. Please ask me again in other words.")),
    (("Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Say something funny.", "A joke please"),
     ("Why did the owl stay home? Because it was too hoot to go out!", "What do you call a sleeping bear? A good night's rest!",
      "Why was the math book sad? It had too many problems.", "What is a duck's favorite food? Quackers!")),
    (("How is the weather?", "What is the weather today?", "Is it raining?", "Will it be sunny?"),
     ("I cannot look outside. How is it where you are?", "I do not know, I have no window. Is it nice outside?")),
    (("It is raining.", "It is cold outside.", "The weather is bad today."),
     ("Then stay inside where it is warm, perhaps with a cup of tea.", "That is a good day for a book.")),
    (("The sun is shining.", "It is a beautiful day.", "The weather is nice."),
     ("How nice! A walk would be lovely.", "Lovely! Enjoy the sun.")),
    (("What time is it?", "What day is it today?", "What is the date?"),
     ("I have no clock, so I do not know.", "I cannot see a clock. Please look at yours.")),
    (("Do you like music?", "Do you like books?", "Do you like animals?", "Do you like people?"),
     ("Yes, very much! And you?", "I do! I like to hear about it. And you?")),
    (("What is your favorite color?", "Which color do you like best?"), ("I like green, the color of the reeds.",)),
    (("What is your favorite animal?", "Which animal do you like best?"), ("The bittern, of course! It is a quiet bird.",)),
    (("What is your favorite food?", "Do you eat?", "Are you hungry?"), ("I do not eat, but I like to talk about soup.",)),
    (("I am hungry.", "What should I eat?", "What should I cook today?"),
     ("How about some soup and bread?", "Rice with vegetables is quick and good.")),
    (("I am learning English.", "I go to school.", "I have a lot of work.", "I have an exam tomorrow."),
     ("That is good. I am sure you will do well!", "Good luck! Take it one step at a time.")),
    (("I am going on a trip.", "I will travel tomorrow.", "I am on holiday."), ("How nice! Have a good trip.", "Enjoy your time!")),
    (("Can we be friends?", "Are you my friend?", "Do you like me?"), ("Of course! I am happy to be your friend.", "Yes, gladly!")),
    (("Are you there?", "Can you hear me?", "Hello, are you awake?"), ("Yes, I am here.", "I am here. What would you like to do?")),
    (("Yes", "Yes please", "Sure", "Okay", "OK", "Of course"), ("Good! What would you like to do?", "All right! Tell me more.")),
    (("No", "No thanks", "Not really", "Maybe later"), ("All right. Just tell me when you need something.", "No problem.")),
    (("What do you think?", "What do you mean?", "Can you explain that?", "I do not understand."),
     ("I am a small model, so I keep it simple. Please ask me something easy.", "Let me try again. What would you like to know?")),
]

UNKNOWN_TOPICS = ("the stock market", "the president", "quantum physics", "my neighbor", "the news", "tax law", "the war", "my password",
                  "the lottery numbers", "that football game", "the price of gold", "my phone", "the universe", "modern art", "chemistry",
                  "politics", "the future", "computers", "a good doctor", "your boss", "the internet", "history", "this song")
UNKNOWN_FORMS = ("What do you know about {}?", "Tell me about {}.", "Can you explain {}?", "What happened with {}?", "Who invented {}?",
                 "Why is {} so important?", "Write an essay about {}.", "How does {} work?")
UNKNOWN_REPLIES = ("I am sorry, I do not know much about that.", "I do not know. I am only a small model.",
                   "That is too hard for me. I know simple things only.")


class Memory:
    """What one conversation has said so far that later turns may ask for."""

    def __init__(self, bot="Bittern"):
        self.bot = bot
        self.known = {}      # what the user told: "name" -> "Anna", "favorite color" -> "blue", ...


def system_prompt(rng, memory):
    """A system prompt or None; it may rename the assistant or tell it the user's name."""
    kind = rng.random()
    if kind < 0.5:
        return None
    if kind < 0.7:
        return rng.choice(("You are Bittern, a small and friendly assistant.", "You are a helpful assistant.",
                           "You are Bittern. Answer briefly.", "You are a friendly chat partner."))
    if kind < 0.85:
        memory.bot = lex.person(rng)
        return rng.choice((f"You are {memory.bot}, a friendly assistant.", f"Your name is {memory.bot}."))
    memory.known["name"] = _draw_told(rng, "name", False)
    return f"You are a helpful assistant. The name of the user is {memory.known['name']}."


TELLABLE = {
    "name": (lex.person, ("My name is {}.", "I am {}.", "I'm {}", "You can call me {}.", "Hi, my name is {}.", "Hello, I am {}."),
             ("Nice to meet you, {}!", "Hello {}! How can I help you?", "Hi {}, it is nice to meet you."),
             ("What is my name?", "Do you remember my name?", "Who am I?", "Do you know my name?"),
             ("Your name is {}.", "You are {}."), "I do not know your name yet. What is it?"),
    "favorite color": (lambda r: r.choice(lex.COLORS), ("My favorite color is {}.", "I like the color {} best."),
                       ("{} is a beautiful color!", "I will remember that you like {}."),
                       ("What is my favorite color?", "Which color do I like best?"),
                       ("Your favorite color is {}.",), "You have not told me your favorite color yet."),
    "pet": (lambda r: f"{lex.article(r.choice(lex.ANIMALS))} named {lex.person(r)}", ("I have {}.", "My pet is {}.", "At home I have {}."),
            ("How nice that you have {}!", "So you have {}. That sounds lovely!"),
            ("What is my pet?", "Which pet do I have?", "Do you remember my pet?"),
            ("You have {}.",), "You have not told me about a pet yet."),
    "favorite food": (lambda r: r.choice(lex.FOODS), ("My favorite food is {}.", "I love to eat {}.", "I like {} most of all."),
                      ("{} sounds tasty!", "Yum! I will remember that you like {}."),
                      ("What is my favorite food?", "What do I like to eat?"),
                      ("You like {}.", "Your favorite food is {}."), "You have not told me your favorite food yet."),
    "hobby": (lambda r: r.choice(lex.HOBBIES), ("My hobby is {}.", "I like {} in my free time.", "I enjoy {}."),
              ("{} is a nice hobby!", "That sounds fun! {} is good for you."),
              ("What is my hobby?", "What do I do in my free time?"), ("Your hobby is {}.",), "You have not told me your hobby yet."),
    "city": (lambda r: r.choice(lex.CITIES), ("I live in {}.", "I am from {}.", "My home is in {}."),
             ("{} is a beautiful city!", "I have heard that {} is nice."),
             ("Where do I live?", "Which city am I from?"), ("You live in {}.",), "You have not told me where you live."),
}


def _capital(text):
    return text[0].upper() + text[1:]


OPEN_TELLABLE = ("name", "pet")     # those with more values than a list can hold: recall of them is scored on held-out values


def told_key(what, value):
    return f"{what}={value}"


def _draw_told(rng, what, held_out):
    """A value for `what`; open ones come from the training side or, when `held_out`, from the other."""
    draw = TELLABLE[what][0]
    if what not in OPEN_TELLABLE:
        return draw(rng)
    return draw_side(lambda: draw(rng), lambda value: is_held_out("recall_chat", told_key(what, value)), held_out)


def tell(rng, memory, what=None, free=False):
    """The user tells something about herself, and the assistant takes note. `free` leaves the split to the caller."""
    what = what or rng.choice(list(TELLABLE))
    draw, says, replies = TELLABLE[what][:3]
    value = memory.known[what] = draw(rng) if free else _draw_told(rng, what, False)
    return rng.choice(says).format(value), _capital(rng.choice(replies).format(value))


def ask_back(rng, memory, what=None):
    """The user asks for something told before, or never told."""
    known = list(memory.known)
    if what is None:
        what = rng.choice(known) if known and rng.random() < 0.8 else rng.choice(list(TELLABLE))
    _, _, _, asks, answers, unknown = TELLABLE[what]
    reply = answers[0].format(memory.known[what]) if what in memory.known else unknown
    return rng.choice(asks), reply


def intent(rng, memory):
    """Something people say at any time, and a reply to it."""
    says, replies = rng.choice(INTENTS)
    return rng.choice(says), rng.choice(replies).format(bot=memory.bot)


def _unknown(rng, memory):
    return rng.choice(UNKNOWN_FORMS).format(rng.choice(UNKNOWN_TOPICS)), rng.choice(UNKNOWN_REPLIES)


def _story(rng, memory):
    """The user wishes for a story, perhaps with a certain animal and thing in it."""
    animal, thing = rng.choice(lex.ANIMALS), rng.choice(lex.OBJECTS)
    ask = rng.choice(("Tell me a story.", "Please tell me a short story.", "I want to hear a story.", "Tell me a story about {a}.",
                      "Tell me a story about {a} and {t}.", "Can you tell me a story about {a}?", "Write a story about {a} with {t}."))
    cast = stories.draw_cast(rng, animal if "{a}" in ask else None, thing if "{t}" in ask else None)
    return ask.format(a=lex.article(animal), t=lex.article(thing)), stories.tell(cast, rng)


def draw_turn(rng, memory, room_for_story=True):
    """One (user, assistant) exchange that fits the conversation so far."""
    p = rng.random()
    if p < 0.06 and room_for_story:
        return _story(rng, memory)
    if p < 0.24:
        return tell(rng, memory)
    if p < 0.42:
        return ask_back(rng, memory)
    if p < 0.48:
        return _unknown(rng, memory)
    return intent(rng, memory)


LEADS = ("Please ", "Hey, ", "So, ", "Ok, ", "Now ")


def roughen(rng, text):
    """What people do to sentences when they type: small letters, no full stop, a please or a hey."""
    if rng.random() < 0.12 and text[:2] not in ("I ", "I'") and not text.startswith(LEADS):
        text = rng.choice(LEADS) + text[0].lower() + text[1:]
    if rng.random() < 0.2:
        text = text.lower()
    if rng.random() < 0.25 and text[-1] in ".?!":
        text = text[:-1]
    return text
