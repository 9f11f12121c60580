/** The screen: photo or camera, what becomes of it, what the server answers. */
package dev.sfumato.demo

import android.Manifest
import android.app.AlertDialog
import android.content.Context
import android.content.pm.PackageManager
import android.graphics.Bitmap
import android.os.Bundle
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.CheckBox
import android.widget.EditText
import android.widget.RadioGroup
import android.widget.SeekBar
import android.widget.Spinner
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.PickVisualMediaRequest
import androidx.activity.result.contract.ActivityResultContracts
import androidx.lifecycle.Lifecycle
import androidx.lifecycle.ViewModel
import androidx.lifecycle.ViewModelProvider
import androidx.lifecycle.lifecycleScope
import androidx.lifecycle.repeatOnLifecycle
import dev.sfumato.core.Accelerator
import dev.sfumato.core.Bundle as Export
import dev.sfumato.core.CodeWord
import dev.sfumato.core.Ledger
import dev.sfumato.core.Perturbed
import dev.sfumato.core.Picture
import dev.sfumato.core.StrengthPoint
import java.io.File
import java.io.IOException
import java.text.DateFormat
import java.util.Date
import java.util.concurrent.Executors
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.launch

class MainActivity : ComponentActivity() {
    private lateinit var model: DemoViewModel
    private lateinit var camera: LiveCamera
    private lateinit var views: Views
    private var shown: Perturbed? = null
    private var offered: List<StrengthPoint> = emptyList()
    private val showAccelerator = OnChange<Accelerator> { views.accelerator.setSelection(ACCELERATORS.indexOf(it).coerceAtLeast(0)) }
    private val showThreads = OnChange<Int> { views.threads.setSelection(THREADS.indexOf(it).coerceAtLeast(0)) }
    private val showStrength = OnChange<Int> { views.strength.setSelection(placeOf(it)) }
    private val showLimit = OnChange<String> { views.limit.setText(it) }
    private val showServer = OnChange<String> { views.server.setText(it) }

    // What TalkBack reads out by itself is written on a change alone, and not with every frame.
    private val showStatus = OnChange<Int> { views.status.setText(it) }
    private val showAccount = OnChange<String> { views.account.text = it }
    private val showRuntime = OnChange<RuntimeState> { views.runtime.text = describe(it) }
    private val showAnswer = OnChange<AnswerState> { views.answer.text = describe(it) }
    private val showConsent = OnChange<String> { views.consentText.text = if (it.isEmpty()) "" else getString(R.string.consent, it) }
    private val showUnlike = OnChange<Boolean> { views.unlike.visibility = if (it) View.VISIBLE else View.GONE }
    private val showHistory = OnChange<HistoryState> { views.history.text = describe(it) }
    private val showCompared = OnChange<String> { views.compare.contentDescription = it }

    /** While the camera runs it says nothing but that: every frame may be unlike the ordinary ones, or not. */
    private val speak = OnChange<Boolean> { aloud ->
        val mode = if (aloud) View.ACCESSIBILITY_LIVE_REGION_POLITE else View.ACCESSIBILITY_LIVE_REGION_NONE
        for (view in with(views) { listOf(account, runtime, answer, consentText, unlike) }) view.accessibilityLiveRegion = mode
    }

    private val pickPhoto = registerForActivityResult(ActivityResultContracts.PickVisualMedia()) { uri ->
        if (uri != null) model.openPhoto(uri.toString())
    }
    private val askForCamera = registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
        if (granted) model.startLive() else model.onCameraFailed(getString(R.string.camera_denied))
    }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        model = ViewModelProvider(this, DemoViewModelFactory(this))[DemoViewModel::class.java]
        camera = LiveCamera(this, this, model.frames, model::onFrame) { model.onCameraFailed(getString(R.string.camera_failed, it)) }
        views = Views(this)
        listen()
        lifecycleScope.launch {
            repeatOnLifecycle(Lifecycle.State.STARTED) { model.state.collect(::render) }
        }
    }

    private fun listen() = with(views) {
        choose.setOnClickListener {
            val images = PickVisualMediaRequest.Builder().setMediaType(ActivityResultContracts.PickVisualMedia.ImageOnly).build()
            pickPhoto.launch(images)
        }
        live.setOnClickListener { toggleLive() }
        send.setOnClickListener { model.send() }
        agree.setOnClickListener { model.agree() }
        decline.setOnClickListener { model.decline() }
        share.setOnClickListener { shareUpload() }
        deleteHistory.setOnClickListener { model.deleteHistory() }
        apply.setOnClickListener {
            model.setServer(server.text.toString(), token.text.toString())
            token.text.clear()
        }
        asImage.setOnCheckedChangeListener { _, checked -> model.sendAsImage(checked) }
        setLimit.setOnClickListener { model.setLimit(limit.text.toString()) }
        repair.setOnClickListener { model.repairAccount() }
        reset.setOnClickListener { confirmReset() }
        wipe.setOnSeekBarChangeListener(OnMoved { compare.share = it / 100f })
        rightPicture.setOnCheckedChangeListener { _, _ -> showPictures() }
        strength.onItemSelectedListener = OnChosen { offered.getOrNull(strength.selectedItemPosition)?.let { model.chooseStrength(it.strength) } }
        accelerator.onItemSelectedListener = OnChosen(::chooseRuntime)
        threads.onItemSelectedListener = OnChosen(::chooseRuntime)
    }

    private fun toggleLive() {
        when {
            (model.state.value as? DemoUiState.Ready)?.live == true -> model.stopLive()
            checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED -> model.startLive()
            else -> askForCamera.launch(Manifest.permission.CAMERA)
        }
    }

    private fun chooseRuntime() {
        val accelerator = ACCELERATORS[views.accelerator.selectedItemPosition]
        model.choose(accelerator, THREADS[views.threads.selectedItemPosition])
    }

    /** What is shown on the right as the upload, which is what would be sent or was; never the photo. */
    private fun shareUpload() {
        val drawn = shown?.drawn ?: return
        try {
            startActivity(shareSheet(this, drawn))
        } catch (error: IOException) {
            views.photo.text = getString(R.string.share_failed, error.reason)
        } catch (error: RuntimeException) { // the system has no share sheet
            views.photo.text = getString(R.string.share_failed, error.reason)
        }
    }

    private fun confirmReset() {
        AlertDialog.Builder(this)
            .setTitle(R.string.reset_key)
            .setMessage(R.string.reset_key_explained)
            .setPositiveButton(R.string.reset) { _, _ -> model.resetKey() }
            .setNegativeButton(android.R.string.cancel, null)
            .show()
    }

    private fun render(state: DemoUiState) {
        views.content.visibility = if (state is DemoUiState.Ready) View.VISIBLE else View.GONE
        when (state) {
            DemoUiState.Loading -> showStatus(R.string.loading)
            is DemoUiState.Broken -> views.status.text = getString(R.string.broken, state.reason)
            is DemoUiState.Ready -> render(state)
        }
    }

    private fun render(state: DemoUiState.Ready) = with(views) {
        speak(!state.live)
        showStatus(if (state.live) R.string.live_explained else R.string.explained)
        live.setText(if (state.live) R.string.stop_camera else R.string.camera)
        showPoints(state)
        if (state.live) camera.start() else camera.stop()
        showAccelerator(state.choice.accelerator)
        showThreads(state.choice.threads)
        showRuntime(state.runtime)
        photo.text = describe(state.photo)
        val strange = (state.photo as? PhotoState.Shown)?.perturbed?.unlike == true
        showUnlike(strange)
        send.setText(if (strange) R.string.send_anyway else R.string.send)
        send.isEnabled = state.photo is PhotoState.Shown && state.answer !is AnswerState.Asking
        share.isEnabled = state.photo is PhotoState.Shown && !state.live
        consent.visibility = if (state.consent.isEmpty()) View.GONE else View.VISIBLE
        showConsent(state.consent)
        showHistory(state.history)
        deleteHistory.visibility = if (state.history == HistoryState()) View.GONE else View.VISIBLE
        showAccount(state.account.text)
        showLimit(state.account.limit)
        repair.visibility = if (state.account.broken) View.VISIBLE else View.GONE
        showAnswer(state.answer)
        asImage.visibility = if (state.asImage == null) View.GONE else View.VISIBLE
        asImage.isChecked = state.asImage == true
        showServer(state.server)
        token.setHint(if (state.hasToken) R.string.token_stored else R.string.token)
        val perturbed = (state.photo as? PhotoState.Shown)?.perturbed
        if (perturbed !== shown) {
            shown = perturbed
            showPictures()
        }
    }

    /** The strengths to choose from, each with the bits and the accuracy that were measured there. */
    private fun showPoints(state: DemoUiState.Ready) = with(views) {
        strength.visibility = if (state.points.isEmpty()) View.GONE else View.VISIBLE
        if (offered != state.points) {
            offered = state.points
            strength.adapter = ArrayAdapter(this@MainActivity, android.R.layout.simple_spinner_dropdown_item, offered.map(::describe))
        }
        showStrength(state.strength)
    }

    private fun placeOf(strength: Int) = offered.indexOfFirst { it.strength == strength }.coerceAtLeast(0)

    private fun describe(point: StrengthPoint): String {
        val right = point.accuracy.entries.joinToString { (name, share) -> getString(R.string.right, name, 100 * share) }
        return getString(R.string.point, point.meanBits, right, point.strength)
    }

    private fun showPictures() = with(views) {
        val perturbed = shown
        val map = perturbed?.noiseMap
        rightPicture.visibility = if (perturbed?.word == null) View.VISIBLE else View.GONE
        val noise = map != null && rightPicture.checkedRadioButtonId == R.id.right_noise
        val right = if (map != null && noise) noiseBitmap(perturbed.drawn, map) else perturbed?.drawn?.toBitmap()
        compare.show(perturbed?.input?.toBitmap(), right, getColor(R.color.accent))
        val name = if (noise) R.string.noise_map else if (perturbed?.word == null) R.string.upload else R.string.code_word
        showCompared(getString(if (perturbed == null) R.string.no_photo else R.string.compare_described, getString(name)))
    }

    /** The [map] of [drawn]'s noise: one value for each of its samples. */
    private fun noiseBitmap(drawn: Picture, map: ByteArray): Bitmap {
        val grey = ByteArray(map.size * 3) { map[it / 3] }
        return Picture(drawn.height, drawn.width, grey).toBitmap()
    }

    private fun describe(runtime: RuntimeState): String = when (runtime) {
        RuntimeState.Opening -> getString(R.string.opening)
        is RuntimeState.Refused -> getString(R.string.refused, runtime.reason)
        is RuntimeState.Running -> {
            val taken = runtime.delegation?.let {
                getString(R.string.taken, it.delegated, it.nodes?.toString() ?: "?", it.partitions)
            } ?: getString(if (runtime.fullyAccelerated) R.string.taken_whole else R.string.taken_unknown)
            val same = if (runtime.difference == 0) getString(R.string.same) else getString(R.string.differs, runtime.difference)
            getString(R.string.running, taken, runtime.initMillis, same)
        }
    }

    private fun describe(photo: PhotoState): String = when (photo) {
        PhotoState.None -> getString(R.string.no_photo)
        PhotoState.Working -> getString(R.string.working)
        is PhotoState.Failed -> photo.reason
        is PhotoState.Shown -> with(photo.perturbed) {
            val rate = rateBits?.let { getString(R.string.rate, it) } ?: getString(R.string.rate_unknown)
            val figures = getString(R.string.figures, upload.content.size, rate, times.pre, times.network, times.sampler, times.encode)
            word?.let { "${describe(it, upload.content.size)}\n$figures" } ?: figures
        }
    }

    /** What travels, in one sentence. */
    private fun describe(word: CodeWord, bytes: Int): String {
        val says = word.labels.entries.joinToString { (name, label) -> "$name: $label" }
        return resources.getQuantityString(if (word.randomised) R.plurals.drawn_word else R.plurals.own_word, bytes, word.number, bytes, says)
    }

    private fun describe(answer: AnswerState): String = when (answer) {
        AnswerState.None -> ""
        AnswerState.Asking -> getString(R.string.asking)
        is AnswerState.Failed -> answer.reason
        is AnswerState.Received -> answer.reply.answers.entries.joinToString("\n") { (name, prediction) ->
            getString(R.string.answer, name, prediction.label, 100 * prediction.probabilities.getValue(prediction.label))
        } + "\n" + getString(R.string.answer_cost, answer.reply.sentBytes, answer.reply.millis)
    }

    private fun describe(history: HistoryState): String {
        val times = DateFormat.getDateTimeInstance(DateFormat.SHORT, DateFormat.SHORT)
        val lines = history.sent.map {
            val bits = it.bits?.let { most -> getString(R.string.history_bits, most) } ?: getString(R.string.history_unbounded)
            getString(R.string.history_entry, times.format(Date(it.millis)), it.service, bits, it.answer)
        }
        return history.problem.ifEmpty { lines.joinToString("\n").ifEmpty { getString(R.string.history_empty) } }
    }

    /** The views of main.xml that are spoken to. */
    private class Views(activity: MainActivity) {
        val status: TextView = activity.findViewById(R.id.status)
        val content: View = activity.findViewById(R.id.content)
        val choose: Button = activity.findViewById(R.id.choose)
        val live: Button = activity.findViewById(R.id.live)
        val strength: Spinner = activity.findViewById(R.id.strength)
        val compare: CompareView = activity.findViewById(R.id.compare)
        val wipe: SeekBar = activity.findViewById(R.id.wipe)
        val rightPicture: RadioGroup = activity.findViewById(R.id.right_picture)
        val photo: TextView = activity.findViewById(R.id.photo)
        val unlike: TextView = activity.findViewById(R.id.unlike)
        val accelerator: Spinner = activity.findViewById(R.id.accelerator)
        val threads: Spinner = activity.findViewById(R.id.threads)
        val runtime: TextView = activity.findViewById(R.id.runtime)
        val server: EditText = activity.findViewById(R.id.server)
        val token: EditText = activity.findViewById(R.id.token)
        val apply: Button = activity.findViewById(R.id.apply)
        val send: Button = activity.findViewById(R.id.send)
        val consent: View = activity.findViewById(R.id.consent)
        val consentText: TextView = activity.findViewById(R.id.consent_text)
        val agree: Button = activity.findViewById(R.id.agree)
        val decline: Button = activity.findViewById(R.id.decline)
        val share: Button = activity.findViewById(R.id.share)
        val history: TextView = activity.findViewById(R.id.history)
        val deleteHistory: Button = activity.findViewById(R.id.delete_history)
        val answer: TextView = activity.findViewById(R.id.answer)
        val account: TextView = activity.findViewById(R.id.account)
        val asImage: CheckBox = activity.findViewById(R.id.as_image)
        val limit: EditText = activity.findViewById(R.id.limit)
        val setLimit: Button = activity.findViewById(R.id.set_limit)
        val repair: Button = activity.findViewById(R.id.repair_account)
        val reset: Button = activity.findViewById(R.id.reset_key)

        init {
            fun spinner(of: Spinner, items: List<String>) {
                of.adapter = ArrayAdapter(activity, android.R.layout.simple_spinner_dropdown_item, items)
            }
            spinner(accelerator, ACCELERATORS.map { it.name })
            spinner(threads, THREADS.map { activity.resources.getQuantityString(R.plurals.threads, it, it) })
        }
    }

    private companion object {
        val THREADS = listOf(1, 2, 4, 8)
    }
}

private class DemoViewModelFactory(private val activity: ComponentActivity) : ViewModelProvider.Factory {
    override fun <T : ViewModel> create(modelClass: Class<T>): T {
        val context = activity.applicationContext
        val parts = DemoParts(
            openBundle = { Export.open { name -> context.assets.open("${Export.FOLDER}/$name").use { it.readBytes() } } },
            networks = LiteRtNetworkFactory(context, ::tfliteLog),
            keys = KeystoreDeviceKeys(SecretFile(context.noBackupFilesDir, "device.key")),
            openLedger = {
                val folder = context.noBackupFilesDir
                Ledger(File(folder, "ledger"), KeystoreDeviceKeys(SecretFile(folder, "ledger.key")).get())
            },
            photos = ContentPhotoReader(context.contentResolver),
            settings = StoredServerSettings(
                context.getSharedPreferences("server", Context.MODE_PRIVATE), SecretFile(context.noBackupFilesDir, "server.token"),
            ),
            history = StoredHistory(SecretFile(context.noBackupFilesDir, "history")),
        )
        val scope = CoroutineScope(SupervisorJob() + Dispatchers.Main.immediate)
        val network = Executors.newSingleThreadExecutor().asCoroutineDispatcher()
        return checkNotNull(modelClass.cast(DemoViewModel(parts, scope, network, Dispatchers.IO)))
    }
}

private class OnMoved(private val act: (Int) -> Unit) : SeekBar.OnSeekBarChangeListener {
    override fun onProgressChanged(bar: SeekBar, progress: Int, fromUser: Boolean) = act(progress)

    override fun onStartTrackingTouch(bar: SeekBar) = Unit

    override fun onStopTrackingTouch(bar: SeekBar) = Unit
}

private class OnChosen(private val act: () -> Unit) : AdapterView.OnItemSelectedListener {
    override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) = act()

    override fun onNothingSelected(parent: AdapterView<*>?) = Unit
}
