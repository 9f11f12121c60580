"""What each method promises and what it does not, in words: nothing here is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Promise:
    """Three sentences about one method."""

    provider_learns: str
    assumes: str
    not_promised: str


PROMISES = {
    "plain": Promise(
        "the photo and the answer",
        "nothing is assumed",
        "any privacy from the provider",
    ),
    "ckks": Promise(
        "nothing of the photo, nothing of the answer; when and how often it is asked",
        "ring-LWE is hard at these parameters (128 bits), and the phone never hands out what it decrypts",
        "a right answer from a provider that deviates; that the phone learns nothing of the network: it sees logits",
    ),
    "two-party": Promise(
        "nothing of the photo, nothing of the answer; when and how often it is asked, and the network's shape",
        "both follow the protocol, and a third party deals the triples and colludes with neither",
        "a right answer or privacy from a party that deviates; masks of cryptographic strength: CrypTen draws them "
        "from PyTorch's generator, which is not a cryptographic one",
    ),
    "sfumato": Promise(
        "at most the mean rate in bits, the answer among them; of hidden attributes what the audit measures",
        "the phone follows the protocol and keeps its key; the provider may do anything with the uploads",
        "that the answer stays hidden; that nothing leaks: a bounded part does, and it adds up over new photos",
    ),
}
"""By method."""
