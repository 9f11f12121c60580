/** What the screen shows: immutable, every case by name. */
package dev.sfumato.demo

import dev.sfumato.core.Accelerator
import dev.sfumato.core.Delegation
import dev.sfumato.core.FULL_STRENGTH
import dev.sfumato.core.Perturbed
import dev.sfumato.core.Picture
import dev.sfumato.core.Reply
import dev.sfumato.core.StrengthPoint
import kotlin.math.ceil

sealed interface DemoUiState {
    /** The export is being read and checked. */
    data object Loading : DemoUiState

    /** The export in this app cannot be used. */
    data class Broken(val reason: String) : DemoUiState

    data class Ready(
        val choice: RuntimeChoice,
        val runtime: RuntimeState = RuntimeState.Opening,
        val photo: PhotoState = PhotoState.None,
        val answer: AnswerState = AnswerState.None,
        val live: Boolean = false,
        /** The camera that looks at the user; otherwise the one on the back. A phone that has one alone uses that. */
        val front: Boolean = true,
        val server: String,
        val hasToken: Boolean,
        val account: AccountState = AccountState(""),
        /** Whether a code word travels as its image; null for an export that sends pictures anyway. */
        val asImage: Boolean? = null,
        /** Strengths that the user may choose from; none for an export that has one alone. */
        val points: List<StrengthPoint> = emptyList(),
        val strength: Int = FULL_STRENGTH,
        /** Whether uploads may go to the server that is set, by the user's word. */
        val agreed: Boolean = false,
        /** What a code word tells on average over the maker's test photos; null for an export that sends pictures. */
        val entropyBits: Double? = null,
        /** The server whose first upload waits for the user's consent; empty: none does. */
        val consent: String = "",
        val history: HistoryState = HistoryState(),
    ) : DemoUiState {
        /** What Send gives the server, of the photo that is shown; null without one. */
        val leaving: Leaving?
            get() = (photo as? PhotoState.Shown)?.perturbed?.let { shown ->
                val mean = entropyBits ?: points.find { it.strength == strength }?.meanBits
                Leaving(shown.upload.content.size, shown.word != null, shown.rateBits?.let(::upwards), mean?.let(::upwards))
            }
    }
}

/**
 * What leaves the phone: so many bytes, a code [word] or else a picture. They tell at most [mostBits] of this photo (null: not bounded
 * here) and [meanBits] on average over the maker's test photos (null: the export does not say).
 */
data class Leaving(val bytes: Int, val word: Boolean, val mostBits: Double?, val meanBits: Double?)

/** With one decimal, rounded up, so that "at most" is true. What the arithmetic of doubles adds is no tenth of a bit. */
internal fun upwards(bits: Double): Double = maxOf(0.0, ceil(bits * 10 - 1e-6) / 10)

/** What was sent to the server by now, in words; or why the account cannot be kept. */
data class AccountState(val text: String, val broken: Boolean = false, val limit: String = "")

/** What was sent, newest first; or why that cannot be kept. */
data class HistoryState(val sent: List<Sent> = emptyList(), val problem: String = "")

/** What the user asked for. */
data class RuntimeChoice(val accelerator: Accelerator = Accelerator.CPU, val threads: Int = 1)

/** State of the runtime that was chosen. */
sealed interface RuntimeState {
    data object Opening : RuntimeState

    data class Running(
        /** What the delegate took; null where the runtime does not count: on the CPU, or fully accelerated. */
        val delegation: Delegation?,
        /** By how many 1/256 its outputs differ from the export's known answers, at most. */
        val difference: Int,
        val initMillis: Double,
        /** The accelerator runs every node. */
        val fullyAccelerated: Boolean = false,
    ) : RuntimeState

    /** Nothing runs in its place. */
    data class Refused(val reason: String) : RuntimeState
}

sealed interface PhotoState {
    data object None : PhotoState

    data object Working : PhotoState

    /** The upload is drawn under the key of [service] and goes to no other. */
    class Shown(val perturbed: Perturbed, val source: Shape, val service: String, fine: () -> Picture) : PhotoState {
        /** What the network saw, cropped to the same shape, as fine as the screen shows it. Made when it is asked for: of most frames it never is. */
        val photo by lazy(fine)
    }

    data class Failed(val reason: String) : PhotoState
}

sealed interface AnswerState {
    data object None : AnswerState

    data object Asking : AnswerState

    data class Received(val reply: Reply) : AnswerState

    data class Failed(val reason: String) : AnswerState
}
