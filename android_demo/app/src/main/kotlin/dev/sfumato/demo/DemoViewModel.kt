/**
 * From a photo to an answer, one step at a time, as [DemoUiState].
 *
 * The network lives on a thread of its own: some delegates must be run by the thread that loaded them. Frames of the camera are
 * perturbed there too and never sent by themselves: every frame is another draw, so sending takes a tap.
 */
package dev.sfumato.demo

import androidx.lifecycle.ViewModel
import dev.sfumato.core.Accelerator
import dev.sfumato.core.AnswerSource
import dev.sfumato.core.Bundle
import dev.sfumato.core.Client
import dev.sfumato.core.Contract
import dev.sfumato.core.DeviceKeys
import dev.sfumato.core.Encoding
import dev.sfumato.core.FULL_STRENGTH
import dev.sfumato.core.Ledger
import dev.sfumato.core.LocalNetwork
import dev.sfumato.core.LogException
import dev.sfumato.core.NetworkFactory
import dev.sfumato.core.Perturber
import dev.sfumato.core.Photo
import dev.sfumato.core.Picture
import dev.sfumato.core.Reply
import dev.sfumato.core.ServiceKeys
import dev.sfumato.core.SfumatoException
import dev.sfumato.core.requireTaken
import java.util.Locale
import java.util.concurrent.Executor
import java.util.concurrent.atomic.AtomicInteger
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.ExecutorCoroutineDispatcher
import kotlinx.coroutines.Job
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.update
import kotlinx.coroutines.isActive
import kotlinx.coroutines.launch
import kotlinx.coroutines.runInterruptible
import kotlinx.coroutines.withContext

/** Reads a photo, upright, large enough for an input of this size. */
fun interface PhotoReader {
    fun read(reference: String, height: Int, width: Int): Picture
}

/** Where uploads go; kept over restarts. */
interface ServerSettings {
    /** Empty where none is set. */
    var server: String
    var token: String?

    /** Whether this build may speak to this host without encryption. */
    fun allowsClearText(host: String): Boolean

    /** Whether the user agreed that uploads go to this server. */
    fun agreedTo(server: String): Boolean

    /** Store that the user agreed, to this server and to no other. */
    fun agreeTo(server: String)

    /** Forget that the user agreed. */
    fun withdraw()
}

/** Everything the view model needs from the phone. */
class DemoParts(
    val openBundle: () -> Bundle,
    val networks: NetworkFactory,
    val keys: DeviceKeys,
    val openLedger: () -> Ledger,
    val photos: PhotoReader,
    val settings: ServerSettings,
    val history: History,
    val answers: (Contract, ServerSettings) -> AnswerSource = { contract, to -> Client(to.server, contract, to.token) },
    val clock: () -> Long = System::currentTimeMillis,
    /** Pixels of the largest square that the screen shows. */
    val screen: Int = 1080,
)

class DemoViewModel(
    private val parts: DemoParts,
    private val scope: CoroutineScope,
    private val network: ExecutorCoroutineDispatcher,
    private val io: CoroutineDispatcher,
) : ViewModel(scope) {
    private val mutableState = MutableStateFlow<DemoUiState>(DemoUiState.Loading)
    val state: StateFlow<DemoUiState> = mutableState.asStateFlow()

    /** Frames must be handed in on this one; it takes the next frame when it is done with the last. */
    val frames: Executor get() = network.executor

    // Touched by the network's thread alone.
    private var bundle: Bundle? = null
    private var engine: Engine? = null
    private var photo: Photo? = null
    private var done = 0

    /** Whose key draws uploads. */
    private var drawnFor = Ledger.FILES
    private val keys = ServiceKeys(parts.keys) { drawnFor }

    /** Counts what changes the picture or how it is drawn, [done] those that are done; between the two nothing that is drawn is shown. */
    private val changes = AtomicInteger()

    private val ledger by lazy(parts.openLedger)
    private var asking: Job? = null
    private var source: AnswerSource? = null
    private val showing = Any()
    private val listing = Any()

    init {
        scope.launch(network) {
            try {
                val opened = parts.openBundle().also { bundle = it }
                val settings = parts.settings
                val asImage = if (opened.contract.answer == null) null else false
                val ready = DemoUiState.Ready(
                    RuntimeChoice(), server = settings.server, hasToken = settings.token != null, asImage = asImage, points = opened.contract.points,
                    agreed = settings.agreedTo(settings.server), entropyBits = opened.contract.answer?.entropyBits,
                )
                mutableState.value = ready
                showAccount()
                showHistory(parts.history::read)
                open(ready.choice)
            } catch (error: Throwable) {
                mutableState.value = DemoUiState.Broken(error.inWords("it cannot be read"))
            }
        }
    }

    /** Run the network elsewhere, or on more threads. */
    fun choose(accelerator: Accelerator, threads: Int) {
        val choice = RuntimeChoice(accelerator, threads)
        val now = state.value as? DemoUiState.Ready ?: return
        if (now.choice == choice) return
        redrawing({ copy(choice = choice, runtime = RuntimeState.Opening) }) { open(choice) }
    }

    /** Send the code word as its image, for services that take images alone; or by itself. */
    fun sendAsImage(image: Boolean) {
        val before = (state.value as? DemoUiState.Ready)?.asImage ?: return
        if (before == image) return
        redrawing({ copy(asImage = image) }) {
            engine = engine?.sending(encoding(), checkNotNull(bundle), keys)
            redraw()
        }
    }

    /** Draw uploads at the strength of another point; what is shown is drawn anew. */
    fun chooseStrength(strength: Int) {
        val now = state.value as? DemoUiState.Ready ?: return
        if (now.strength == strength) return
        redrawing({ copy(strength = strength) }) { redraw() }
    }

    private fun encoding(): Encoding {
        val asImage = (state.value as? DemoUiState.Ready)?.asImage == true
        return if (asImage) Encoding.PNG else checkNotNull(bundle).contract.encoding
    }

    /** Show a photo of the gallery. */
    fun openPhoto(reference: String) {
        redrawing({ copy(live = false, photo = PhotoState.Working) }) {
            // The photo picker may answer an app that was started anew, with an export that is broken by now.
            val contract = bundle?.contract
            if (contract != null) perturb { parts.photos.read(reference, contract.height, contract.width) }
        }
    }

    fun startLive() {
        forgetAnswer()
        ready { copy(live = true) }
    }

    /** Use the other camera. */
    fun switchCamera() = ready { copy(front = !front) }

    /** Keep the last frame that is shown. */
    fun stopLive() = ready { copy(live = false) }

    /** A frame of the camera, on [frames]. One that is done after the camera was stopped is not shown: another may be on its way already. */
    fun onFrame(frame: () -> Photo) {
        if ((state.value as? DemoUiState.Ready)?.live == true) perturb(frame = true, frame)
    }

    /** The camera cannot be used. */
    fun onCameraFailed(reason: String) = ready { copy(live = false, photo = PhotoState.Failed(reason)) }

    /** Ask the server about the upload that is shown; before the first one, ask the user whether it may go there. */
    fun send() {
        stopLive()
        val now = state.value as? DemoUiState.Ready ?: return
        val shown = now.photo as? PhotoState.Shown ?: return
        forgetAnswer()
        if (now.server.isNotEmpty() && !parts.settings.agreedTo(now.server)) {
            ready { copy(consent = now.server) }
            return
        }
        ready { copy(answer = AnswerState.Asking) }
        asking = scope.launch {
            val answer = try {
                AnswerState.Received(countAndSend(shown))
            } catch (error: CancellationException) {
                throw error
            } catch (error: Throwable) {
                AnswerState.Failed(error.inWords("the upload cannot be sent: try again"))
            }
            ready { if (isActive) copy(answer = answer) else this } // the state of a forgotten question is another's by now
        }
    }

    /** Uploads may go to the server that was named, from now on; the one that is shown goes. */
    fun agree() {
        val server = (state.value as? DemoUiState.Ready)?.consent.orEmpty()
        if (server.isEmpty()) return
        parts.settings.agreeTo(server)
        ready { copy(agreed = true) }
        send()
    }

    /** Nothing is sent, and the next tap on Send asks again. */
    fun decline() = ready { copy(consent = "") }

    /** No upload goes to any server until the user agrees again. One whose answer is waited for may have arrived. */
    fun withdraw() {
        parts.settings.withdraw()
        forgetAnswer()
        ready { copy(agreed = false) }
    }

    /** Forget what was sent. The account, which holds the limit, stays. */
    fun deleteHistory() {
        scope.launch(io) { showHistory { parts.history.delete().let { emptyList() } } }
    }

    /** Show the list that [work] gives; one at a time. */
    private fun showHistory(work: () -> List<Sent>) = synchronized(listing) {
        val shown = try {
            HistoryState(work())
        } catch (error: Throwable) {
            HistoryState(problem = error.inWords("what was sent cannot be kept"))
        }
        ready { copy(history = shown) }
    }

    /**
     * Counted first: what the server may have is in the account, whatever becomes of the answer. An interruption would close the
     * ledger under the entry, so only the wait for the answer is interrupted; a question forgotten while it is counted is not sent.
     */
    private suspend fun countAndSend(shown: PhotoState.Shown): Reply {
        val perturbed = shown.perturbed
        val (service, source) = withContext(io) {
            destination().also { (host, _) ->
                if (host != shown.service) throw SfumatoException("nothing was sent: the upload was drawn for another server; try again")
                try {
                    ledger.spend(host, perturbed.draw, perturbed.rateBits)
                } finally {
                    showAccount()
                }
            }
        }
        val reply = runInterruptible(io) { source.send(perturbed.upload) }
        val answer = reply.answers.entries.joinToString { (name, answer) -> "$name: ${answer.label}" }
        withContext(io + NonCancellable) { // it was sent, whatever the user does now
            showHistory { parts.history.add(Sent(parts.clock(), service, perturbed.rateBits, answer)) }
        }
        return reply
    }

    /** Send no more than this many bits a day to the server; an empty text lifts the limit. */
    fun setLimit(text: String) = onAccount {
        val bits = text.trim().replace(',', '.').ifEmpty { null }?.let {
            it.toDoubleOrNull() ?: throw SfumatoException("a limit is a number of bits, not '$it'")
        }
        ledger.setLimit(service(), bits, null)
    }

    /** Keep what is whole of a damaged account. */
    fun repairAccount() = onAccount { ledger.repair() }

    private fun onAccount(work: () -> Unit) {
        scope.launch(io) {
            try {
                work()
                showAccount()
            } catch (error: Throwable) {
                ready { copy(account = account.copy(text = error.inWords(NO_ACCOUNT), broken = error is LogException)) }
            }
        }
    }

    /** One at a time: an account that was read earlier is shown earlier. */
    private fun showAccount() = synchronized(showing) {
        val shown = try {
            val account = ledger.account(service())
            AccountState(account.sentence, limit = account.limit.day?.let { "%.6f".format(Locale.ROOT, it / 1e6).trimEnd('0').trimEnd('.') }.orEmpty())
        } catch (error: Throwable) {
            AccountState(error.inWords(NO_ACCOUNT), broken = error is LogException)
        }
        ready { copy(account = shown) }
    }

    /** Send to another server; an empty [token] keeps the one that is stored unless the server changes. */
    fun setServer(server: String, token: String) {
        val settings = parts.settings
        try {
            val checked = Client.checkedUrl(server, settings::allowsClearText)
            Client.checkToken(token)
            forgetAnswer()
            synchronized(settings) {
                if (token.isNotEmpty() || checked != settings.server) settings.token = token.ifEmpty { null }
                settings.server = checked
                source = null
            }
            // What is shown was drawn under the key of the server before.
            redrawing({ copy(server = checked, hasToken = settings.token != null, agreed = settings.agreedTo(checked)) }) { redraw() }
            scope.launch(io) { showAccount() }
        } catch (error: Throwable) {
            ready { copy(answer = AnswerState.Failed(error.inWords("the server cannot be stored: try again"))) }
        }
    }

    /** Uploads from now on share nothing with earlier ones, not even those of the same photo. */
    fun resetKey() {
        redrawing({ this }) {
            parts.keys.reset()
            redraw()
        }
    }

    override fun onCleared() {
        network.executor.execute { engine?.network?.close() }
        network.close()
    }

    private fun open(choice: RuntimeChoice) {
        engine?.network?.close()
        engine = null
        val runtime = try {
            val start = System.nanoTime()
            val opened = Engine.open(checkNotNull(bundle), choice, parts, keys, encoding())
            engine = opened
            val millis = (opened.openedAt - start) / 1e6
            RuntimeState.Running(opened.network.delegation, opened.difference, millis, opened.network.fullyAccelerated)
        } catch (error: Throwable) {
            RuntimeState.Refused(error.inWords("the network cannot be loaded"))
        }
        ready { if (this.choice == choice) copy(runtime = runtime) else this }
        redraw()
    }

    /**
     * Change the picture, or how it is drawn, by [work] on the network's thread, which draws anew. From now on nothing that was drawn
     * before can be shown or sent, a frame that is being perturbed included.
     */
    private fun redrawing(change: DemoUiState.Ready.() -> DemoUiState.Ready, work: () -> Unit) {
        val mine = changes.incrementAndGet()
        forgetAnswer()
        ready { change().run { if (photo is PhotoState.Shown) copy(photo = PhotoState.Working) else this } }
        scope.launch(network) {
            done = mine
            try {
                work()
            } catch (error: Throwable) {
                ready { copy(photo = PhotoState.Failed(error.inWords("the photo cannot be drawn anew: try again"))) }
            }
        }
    }

    private fun redraw() = photo?.let { perturb { it } }

    /**
     * Show what becomes of a picture; a [frame] only while the camera runs. What was begun before the last of [changes] is not shown.
     * Readers may throw anything, errors of a provider and want of memory among them.
     */
    private fun perturb(frame: Boolean = false, read: () -> Photo) {
        val before = photo
        val shown = try {
            photo = null
            val picture = read().also { photo = it }
            val perturber = engine?.perturber ?: throw SfumatoException("no network runs: choose another delegate")
            drawnFor = if (parts.settings.server.isEmpty()) Ledger.FILES else service()
            val perturbed = perturber.perturb(picture, (state.value as? DemoUiState.Ready)?.strength ?: FULL_STRENGTH)
            val now = PhotoState.Shown(perturbed, Shape(picture.height, picture.width), drawnFor) { forScreen(picture, perturbed.input, parts.screen) }
            now.also { if (!frame) it.photo } // here, where it may fail
        } catch (error: Throwable) {
            PhotoState.Failed(error.inWords("the photo cannot be used: choose another one"))
        }
        var taken = false
        ready {
            taken = (live || !frame) && (shown is PhotoState.Failed || done == changes.get())
            if (taken) copy(photo = shown) else this
        }
        if (frame && !taken) photo = before // what is drawn anew is what is shown
    }

    /** The account's name of the server, and the way to it. A question about to be forgotten must not bring back the server of before. */
    private fun destination(): Pair<String, AnswerSource> = synchronized(parts.settings) {
        val service = service()
        // Another build of this app may have stored it.
        val server = Client.checkedUrl(parts.settings.server, parts.settings::allowsClearText)
        if (!parts.settings.agreedTo(server)) throw SfumatoException("nothing was sent: uploads to $service need your consent first")
        service to (source ?: parts.answers(checkNotNull(bundle).contract, parts.settings).also { source = it })
    }

    private fun service(): String {
        val server = parts.settings.server
        if (server.isEmpty()) throw SfumatoException("no server is set: give its address under Server, such as https://photos.example")
        return Ledger.serviceOf(server)
    }

    private fun forgetAnswer() {
        asking?.cancel()
        ready { copy(answer = AnswerState.None, consent = "") }
    }

    private fun ready(change: DemoUiState.Ready.() -> DemoUiState.Ready) =
        mutableState.update { if (it is DemoUiState.Ready) it.change() else it }
}

private const val NO_ACCOUNT = "the account cannot be kept, and nothing may be sent without it"

/** A loaded network that was asked for the export's known answers. */
private class Engine(val network: LocalNetwork, val perturber: Perturber, val openedAt: Long, val difference: Int) {
    /** The same network; uploads travel otherwise. */
    fun sending(encoding: Encoding, bundle: Bundle, keys: DeviceKeys) =
        Engine(network, Perturber(bundle, network, keys, encoding), openedAt, difference)

    companion object {
        fun open(bundle: Bundle, choice: RuntimeChoice, parts: DemoParts, keys: DeviceKeys, encoding: Encoding): Engine {
            val network = parts.networks.open(bundle.model, choice.accelerator, choice.threads).requireTaken(choice.accelerator)
            val openedAt = System.nanoTime()
            try {
                val perturber = Perturber(bundle, network, keys, encoding)
                return Engine(network, perturber, openedAt, bundle.vectors.largestDifference(perturber, bundle.contract))
            } catch (error: Throwable) {
                network.close()
                throw error
            }
        }
    }
}
